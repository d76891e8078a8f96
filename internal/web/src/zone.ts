import { discard, Failure, upload, Upload } from './api'
import { bytes, duration, make } from './text'

export type Kind = 'video' | 'audio' | 'mask'

// Form is what the zones of a form share. changed is called when a file has gone or an upload has
// begun, and with true when the form may be complete.
export interface Form { max: number; complain: (text: string) => void; changed: (settled: boolean) => void }

export const used = new Set<string>() // uploads that jobs use, and need for a retry

export function say(e: unknown): string { return e instanceof Failure ? e.text : e instanceof Error ? e.message : String(e) }

// Zone is an input of the form: a file is chosen, dropped or given to take, and uploaded. Its area
// has a file input, a state, a progress bar and a place for a thumbnail.
export class Zone {
  file: Upload | undefined
  private sending: AbortController | undefined
  readonly input: HTMLInputElement

  constructor(private readonly area: HTMLElement, private readonly kind: Kind, private readonly noun: string, private readonly form: Form) {
    this.input = this.part('input')
    this.input.addEventListener('change', () => this.first(this.input.files))
    for (const type of ['dragenter', 'dragover']) area.addEventListener(type, (e) => { e.preventDefault(); area.classList.add('over') })
    for (const type of ['dragleave', 'drop']) area.addEventListener(type, () => area.classList.remove('over'))
    area.addEventListener('drop', (e) => { e.preventDefault(); this.first(e.dataTransfer?.files) })
  }

  get busy(): boolean { return !!this.sending }

  private part<T extends HTMLElement>(selector: string): T { return this.area.querySelector<T>(selector)! }

  private first(files: FileList | null | undefined): void {
    const f = files?.[0]
    if (f) void this.take(f, f.name)
  }

  // drop removes the file, or ends its upload.
  drop(): void {
    this.form.complain('')
    this.sending?.abort()
    this.sending = undefined
    const before = this.file
    this.file = undefined
    this.part('.thumb').replaceChildren()
    this.part('.state').textContent = ''
    this.part('progress').hidden = true
    if (before && !used.has(before.id)) discard('/v1/uploads/' + before.id)
    this.form.changed(false)
  }

  // take uploads a file. It replaces the previous one.
  async take(file: File | Blob, name: string): Promise<void> {
    this.drop()
    const { kind, form } = this
    const mine = new AbortController()
    const state = this.part('.state'), bar = this.part<HTMLProgressElement>('progress'), thumb = this.part('.thumb')
    if (file.size > form.max) {
      form.complain(`${name} has a size of ${bytes(file.size)}; this server accepts at most ${bytes(form.max)}.`)
      return
    }
    this.sending = mine
    form.changed(false)
    state.textContent = `Uploading ${name}, ${bytes(file.size)}`
    bar.hidden = false
    try {
      const u = await upload(file, name, mine.signal, (share) => { bar.value = share })
      if (mine.signal.aborted) return
      const m = u.media
      const [lack, hint] = kind === 'video' && m?.kind === 'audio' ? ['picture', 'choose a video or a picture of a face']
        : kind === 'mask' && m?.kind === 'audio' ? ['picture', 'choose a picture or a video']
        : kind === 'audio' && m && !m.has_audio ? ['sound', 'choose an audio file, or a video with sound'] : []
      if (lack) {
        discard('/v1/uploads/' + u.id)
        throw new Failure(0, `${name} has no ${lack}`, hint)
      }
      this.file = u
      const facts = [bytes(u.size)]
      if (m?.duration) facts.unshift(duration(m.duration))
      if (kind !== 'audio' && m?.width) facts.unshift(`${m.width} by ${m.height}`)
      state.textContent = `${u.name}: ${facts.join(', ')}`
      const src = `/v1/uploads/${u.id}/content`, what = 'The ' + this.noun
      if (kind === 'audio') thumb.append(make('audio', { controls: '', preload: 'metadata', src, 'aria-label': what }))
      else if (m?.kind === 'picture') thumb.append(make('img', { src, alt: what }))
      else thumb.append(make('video', { controls: '', preload: 'metadata', playsinline: '', src, 'aria-label': what }))
    } catch (e) {
      if (mine.signal.aborted) return
      state.textContent = ''
      form.complain(say(e))
    } finally {
      if (!mine.signal.aborted) {
        bar.hidden = true
        this.sending = undefined
      }
    }
    form.changed(true)
  }
}
