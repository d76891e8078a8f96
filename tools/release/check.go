package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// check builds the commit again, in another folder and with an empty build cache, and compares the checksums. Then it installs the commit with go install.
func (r *release) check(ctx context.Context) error {
	temp, err := os.MkdirTemp("", "lipstream-release-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	again := r.with("GOCACHE=" + filepath.Join(temp, "cache"))
	again.out = filepath.Join(temp, "dist")
	fmt.Println("again, in another folder:")
	if err := again.build(ctx); err != nil {
		return err
	}
	first, err := os.ReadFile(filepath.Join(r.out, sums))
	if err != nil {
		return err
	}
	second, err := os.ReadFile(filepath.Join(again.out, sums))
	if err != nil {
		return err
	}
	if string(first) != string(second) {
		return fmt.Errorf("the two builds differ:\n%s\n%s", first, second)
	}
	fmt.Println("both builds are equal")
	return r.checkInstall(ctx, temp)
}

// checkInstall runs go install with the version, which comes from a module proxy in a
// folder: so every embedded file is in the module.
func (r *release) checkInstall(ctx context.Context, temp string) error {
	r = r.with()
	r.root = r.source
	cache, err := r.tool(ctx, "go", "env", "GOMODCACHE")
	if err != nil {
		return err
	}
	proxy, bin := filepath.Join(temp, "proxy"), filepath.Join(temp, "bin")
	versions := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	at := filepath.Join(versions, r.version)
	if _, err := r.tool(ctx, "git", "archive", "--format=zip", "--prefix="+module+"@"+r.version+"/", "-o", at+".zip", "HEAD"); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(r.source, "go.mod"))
	if err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, r.version, r.time.UTC().Format("2006-01-02T15:04:05Z"))
	if err := errors.Join(os.WriteFile(at+".mod", mod, 0o644), os.WriteFile(at+".info", []byte(info), 0o644),
		os.WriteFile(filepath.Join(versions, "list"), []byte(r.version+"\n"), 0o644)); err != nil {
		return err
	}
	r.root = temp
	offline := r.with("GOPROXY=file://"+proxy+",file://"+filepath.Join(cache, "cache", "download"), "GOMODCACHE="+filepath.Join(temp, "modules"),
		"GONOSUMDB=*", "GOFLAGS=-modcacherw", "GOBIN="+bin, "CGO_ENABLED=0")
	if _, err := offline.tool(ctx, "go", "install", module+"/cmd/lipstream@"+r.version); err != nil {
		return err
	}
	said, err := offline.tool(ctx, filepath.Join(bin, "lipstream"), "--version")
	if err != nil {
		return err
	}
	if !strings.HasPrefix(said, r.version) {
		return fmt.Errorf("go install made %q, want %s", said, r.version)
	}
	fmt.Println("go install works:", said)
	return nil
}
