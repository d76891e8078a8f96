import { discard, Estimate, Failure, failure, get, Job, onToken, Options, passing, post, upload, Upload, wait } from './api'
import { watch } from './chart'
import { follow, show } from './jobs'
import { recorder } from './record'
import { build, given } from './settings'
import { bytes, duration, find, make } from './text'

type Kind = 'video' | 'audio'

const inputs: Record<Kind, Upload | undefined> = { video: undefined, audio: undefined }
const used = new Set<string>() // uploads that jobs use, and need for a retry
const sending: Record<Kind, AbortController | undefined> = { video: undefined, audio: undefined }
let options: Options
let estimating: AbortController | undefined

function say(e: unknown): string { return e instanceof Failure ? e.text : e instanceof Error ? e.message : String(e) }

function complain(text: string): void {
  const p = find('form-error')
  p.textContent = text
  p.hidden = text === ''
}

// take uploads a file. It replaces the previous one.
async function take(kind: Kind, file: File | Blob, name: string): Promise<void> {
  complain('')
  sending[kind]?.abort()
  const mine = sending[kind] = new AbortController()
  const before = inputs[kind]
  inputs[kind] = undefined
  const state = find(kind + '-state'), bar = find<HTMLProgressElement>(kind + '-progress'), thumb = find(kind + '-thumb')
  thumb.replaceChildren()
  if (before && !used.has(before.id)) discard('/v1/uploads/' + before.id)
  ready()
  if (file.size > options.max_upload) {
    state.textContent = ''
    complain(`${name} has a size of ${bytes(file.size)}; this server accepts at most ${bytes(options.max_upload)}.`)
    return
  }
  state.textContent = `Uploading ${name}, ${bytes(file.size)}`
  bar.hidden = false
  try {
    const u = await upload(file, name, mine.signal, (share) => { bar.value = share })
    if (mine.signal.aborted) return
    const m = u.media
    const [lack, hint] = kind === 'video' && m?.kind === 'audio' ? ['picture', 'choose a video or a picture of a face']
      : kind === 'audio' && m && !m.has_audio ? ['sound', 'choose an audio file, or a video with sound'] : []
    if (lack) {
      discard('/v1/uploads/' + u.id)
      throw new Failure(0, `${name} has no ${lack}`, hint)
    }
    inputs[kind] = u
    const facts = [bytes(u.size)]
    if (m?.duration) facts.unshift(duration(m.duration))
    if (kind === 'video' && m?.width) facts.unshift(`${m.width} by ${m.height}`)
    state.textContent = `${u.name}: ${facts.join(', ')}`
    const src = `/v1/uploads/${u.id}/content`
    if (kind === 'audio') thumb.append(make('audio', { controls: '', preload: 'metadata', src, 'aria-label': 'The voice' }))
    else if (m?.kind === 'picture') thumb.append(make('img', { src, alt: 'The face' }))
    else thumb.append(make('video', { controls: '', preload: 'metadata', playsinline: '', src, 'aria-label': 'The face' }))
  } catch (e) {
    if (mine.signal.aborted) return
    state.textContent = ''
    complain(say(e))
  } finally {
    if (!mine.signal.aborted) bar.hidden = true
  }
  ready()
  void estimate()
}

function ready(): void { find<HTMLButtonElement>('start').disabled = !inputs.video || !inputs.audio }

// spec returns the request for the job in the form.
function spec(): Record<string, unknown> {
  const stem = (inputs.video?.name ?? 'video').replace(/\.[^.]*$/, '')
  const priority = find<HTMLSelectElement>('priority').value
  return {
    video: { upload: inputs.video?.id }, audio: { upload: inputs.audio?.id }, name: stem + '-lipstream' + find<HTMLSelectElement>('container').value,
    ...(priority === 'normal' ? {} : { priority }), ...given(),
  }
}

// estimate shows the estimate of the job. A new call replaces the previous one.
async function estimate(): Promise<void> {
  estimating?.abort()
  const box = find('estimate')
  if (!inputs.video || !inputs.audio || !options.estimates) { box.textContent = ''; return }
  const mine = estimating = new AbortController()
  box.textContent = 'Estimating…'
  try {
    const p = await post<Estimate>('/v1/estimate', spec(), mine.signal)
    const words = [`${p.frames} frames with ${p.engine}`]
    if (p.total_seconds) words.push(`about ${duration(Math.max(1, p.total_seconds))}`)
    const memory = p.needs || p.memory_peak
    if (memory) words.push(`${bytes(memory)} of memory` + (p.budget ? ` of ${bytes(p.budget)}` : ''))
    if (p.speech_seconds === 0) words.push('no speech was found: the mouth would stay closed')
    box.textContent = 'Estimate: ' + words.join(', ') + '.'
  } catch (e) {
    if (!mine.signal.aborted) box.textContent = 'No estimate: ' + say(e)
  }
}

function zone(kind: Kind): void {
  const input = find<HTMLInputElement>(kind + '-file')
  const drop = input.closest<HTMLElement>('.drop')!
  input.addEventListener('change', () => { const f = input.files?.[0]; if (f) void take(kind, f, f.name) })
  for (const type of ['dragenter', 'dragover']) drop.addEventListener(type, (e) => { e.preventDefault(); drop.classList.add('over') })
  for (const type of ['dragleave', 'drop']) drop.addEventListener(type, () => drop.classList.remove('over'))
  drop.addEventListener('drop', (e) => {
    e.preventDefault()
    const f = e.dataTransfer?.files[0]
    if (f) void take(kind, f, f.name)
  })
}

function askToken(): () => Promise<void> {
  let asking: Promise<void> | undefined
  const dialog = find<HTMLDialogElement>('token-dialog'), error = find('token-error'), field = find<HTMLInputElement>('token')
  dialog.addEventListener('cancel', (e) => e.preventDefault())
  return () => asking ??= new Promise<void>((done) => {
    find('token-form').onsubmit = async (e) => {
      e.preventDefault()
      const body = JSON.stringify({ token: field.value.trim() })
      const answer = await fetch('/v1/session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).catch(() => undefined)
      error.hidden = answer?.ok ?? false
      if (!answer?.ok) {
        error.textContent = !answer ? 'The server does not answer. Check that lipstream serve is still running.'
          : answer.status === 401 ? 'This token is wrong.' : (await failure(answer)).text
        field.select()
        return
      }
      field.value = ''
      dialog.close()
      asking = undefined
      done()
    }
    dialog.showModal()
  })
}

// first reads the options of the server; it retries until the server answers.
async function first(): Promise<Options> {
  for (;;) {
    try {
      const o = await get<Options>('/v1/options')
      complain('')
      return o
    } catch (e) {
      if (!passing(e)) throw e
      complain(say(e) + ' Trying again.')
      await wait(2000)
    }
  }
}

async function begin(): Promise<void> {
  onToken(askToken())
  options = await first()
  find('version').textContent = options.version
  build(options)
  find('container').append(...options.containers.map((c) => make('option', { value: c }, c.slice(1))))
  zone('video')
  zone('audio')
  recorder((sound, name) => void take('audio', sound, name), complain)
  document.addEventListener('paste', (e) => {
    for (const f of e.clipboardData?.files ?? []) void take(f.type.startsWith('audio/') ? 'audio' : 'video', f, f.name)
  })
  // A file that is dropped outside a zone must not replace the page.
  for (const type of ['dragover', 'drop']) document.addEventListener(type, (e) => e.preventDefault())
  for (const id of ['basic', 'advanced']) find(id).addEventListener('change', () => void estimate())
  find('form').addEventListener('submit', async (e) => {
    e.preventDefault()
    const start = find<HTMLButtonElement>('start')
    if (start.disabled) return
    start.disabled = true
    complain('')
    try {
      const job = await post<Job>('/v1/jobs', spec())
      for (const u of Object.values(inputs)) if (u) used.add(u.id)
      show(job)
      find('form-state').textContent = 'The job is in the queue.'
      setTimeout(() => { find('form-state').textContent = '' }, 8000)
    } catch (err) {
      complain(say(err))
    }
    ready()
  })
  follow()
  void watch()
}

begin().catch((e: unknown) => complain(say(e)))
