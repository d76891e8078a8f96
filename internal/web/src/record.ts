import { find } from './text'

// recorder records a voice with the microphone and calls done with it.
export function recorder(done: (sound: Blob, name: string) => void, failed: (why: string) => void): void {
  const button = find<HTMLButtonElement>('record'), meter = find<HTMLMeterElement>('level'), clock = find('recorded')
  let running: MediaRecorder | undefined
  if (!navigator.mediaDevices || !('MediaRecorder' in window)) {
    button.disabled = true
    clock.textContent = 'This browser can only record on pages from https or localhost.'
    return
  }
  button.addEventListener('click', async () => {
    if (running) { running.stop(); return }
    let stream: MediaStream
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } })
    } catch {
      failed('The microphone cannot be used. Allow it in the browser, or choose a file.')
      return
    }
    const pieces: Blob[] = []
    const began = Date.now()
    const context = new AudioContext(), analyser = context.createAnalyser()
    context.createMediaStreamSource(stream).connect(analyser)
    const samples = new Float32Array(analyser.fftSize)
    running = new MediaRecorder(stream)
    running.addEventListener('dataavailable', (e) => pieces.push(e.data))
    const tick = setInterval(() => {
      analyser.getFloatTimeDomainData(samples)
      meter.value = Math.min(1, Math.max(...samples.map(Math.abs)) * 1.5)
      clock.textContent = `${Math.round((Date.now() - began) / 1000)} s`
    }, 100)
    running.addEventListener('stop', () => {
      clearInterval(tick)
      stream.getTracks().forEach((t) => t.stop())
      void context.close()
      const type = running!.mimeType
      running = undefined
      button.textContent = 'Record again'
      button.setAttribute('aria-pressed', 'false')
      meter.hidden = true
      const ext = type.includes('mp4') ? 'm4a' : type.includes('ogg') ? 'ogg' : 'webm'
      done(new Blob(pieces, { type }), `recording.${ext}`)
    })
    running.start(1000)
    button.textContent = 'Stop recording'
    button.setAttribute('aria-pressed', 'true')
    meter.hidden = false
  })
}
