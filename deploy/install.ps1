# Installs Lipstream for this user, without administrator rights. Windows PowerShell
# 5.1 or newer.
#
#   .\install.ps1 [-Folder FOLDER]   default: %LOCALAPPDATA%\Programs\lipstream
#
# LIPSTREAM_VERSION      a version such as v1.2.3; the latest by default
# LIPSTREAM_RELEASE_URL  the address of the folder with the archives and SHA256SUMS
param([string]$Folder = (Join-Path $env:LOCALAPPDATA 'Programs\lipstream'))

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue' # the bar slows downloads in 5.1
[Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

# In a 32-bit PowerShell, PROCESSOR_ARCHITEW6432 has the processor of the system.
$processor = $env:PROCESSOR_ARCHITECTURE
if ($env:PROCESSOR_ARCHITEW6432) { $processor = $env:PROCESSOR_ARCHITEW6432 }
switch ($processor) {
    'AMD64' { $arch = 'amd64' }
    'ARM64' { $arch = 'arm64' }
    default { throw "there is no archive for $processor" }
}
$releases = 'https://github.com/lipstream/lipstream/releases'
if ($env:LIPSTREAM_RELEASE_URL) {
    $url = $env:LIPSTREAM_RELEASE_URL.TrimEnd('/')
} elseif ($env:LIPSTREAM_VERSION) {
    $url = "$releases/download/$env:LIPSTREAM_VERSION"
} else {
    $url = "$releases/latest/download"
}
$name = "lipstream-windows-$arch"

$temp = Join-Path ([IO.Path]::GetTempPath()) ([IO.Path]::GetRandomFileName())
New-Item -ItemType Directory -Path $temp | Out-Null
try {
    $sums = Join-Path $temp 'SHA256SUMS'
    $archive = Join-Path $temp "$name.zip"
    Write-Host "downloading $url/$name.zip"
    Invoke-WebRequest -UseBasicParsing -Uri "$url/SHA256SUMS" -OutFile $sums
    Invoke-WebRequest -UseBasicParsing -Uri "$url/$name.zip" -OutFile $archive
    $want = $null
    foreach ($line in Get-Content -LiteralPath $sums) {
        $hash, $file = $line -split '\s+', 2
        if ($file -eq "$name.zip") { $want = $hash }
    }
    if (-not $want) { throw "SHA256SUMS does not have $name.zip" }
    $got = (Get-FileHash -Algorithm SHA256 -LiteralPath $archive).Hash
    if ($got -ne $want) { throw "the checksum of $name.zip is $got, want $want; download it again" }
    Expand-Archive -LiteralPath $archive -DestinationPath $temp

    $new = Join-Path $temp "$name\lipstream.exe"
    $version = & $new --version
    if ($LASTEXITCODE -ne 0) { throw 'the program does not run on this machine' }
    New-Item -ItemType Directory -Force -Path $Folder | Out-Null
    $program = Join-Path $Folder 'lipstream.exe'
    if (Test-Path -LiteralPath $program) {
        # Windows does not replace a running program, but renames it.
        $old = "$program.old"
        Remove-Item -Force -ErrorAction SilentlyContinue -LiteralPath $old
        Move-Item -Force -LiteralPath $program -Destination $old
    }
    Move-Item -LiteralPath $new -Destination $program
    Write-Host "installed $program $version"

    $path = [Environment]::GetEnvironmentVariable('Path', 'User')
    if (($path -split ';') -notcontains $Folder) {
        [Environment]::SetEnvironmentVariable('Path', ((@($path, $Folder) | Where-Object { $_ }) -join ';'), 'User')
        Write-Host "added $Folder to your Path; open a new terminal to use it"
    }
    Write-Host 'next: lipstream runtime install; lipstream doctor'
} finally {
    Remove-Item -Recurse -Force -ErrorAction SilentlyContinue -LiteralPath $temp
}
