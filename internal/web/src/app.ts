import { Estimate, failure, get, Job, onToken, Options, passing, post, wait } from './api'
import { watch } from './chart'
import { follow, show } from './jobs'
import { recorder } from './record'
import { build, given } from './settings'
import { complete, extras, files, sounds } from './speakers'
import { bytes, duration, find, make } from './text'
import { Form, Kind, say, used, Zone } from './zone'

let zones: Record<Kind, Zone>
let options: Options
let estimating: AbortController | undefined

function complain(text: string): void {
  const p = find('form-error')
  p.textContent = text
  p.hidden = text === ''
}

function ready(): void {
  find<HTMLButtonElement>('start').disabled = [!zones.video.file, !zones.audio.file, zones.mask.busy, !complete()].some(Boolean)
  find('mask-remove').hidden = !zones.mask.file && !zones.mask.busy
}

// spec returns the request for the job in the form.
function spec(): Record<string, unknown> {
  const video = zones.video.file, mask = zones.mask.file
  const stem = (video?.name ?? 'video').replace(/\.[^.]*$/, '')
  const settings = given()
  const priority = find<HTMLSelectElement>('priority').value
  return {
    video: { upload: video?.id }, ...(mask ? { mask: { upload: mask.id } } : {}), name: stem + '-lipstream' + find<HTMLSelectElement>('container').value,
    ...(priority === 'normal' ? {} : { priority }), ...settings, ...sounds(zones.audio.file, settings['face']),
  }
}

// estimate shows the estimate of the job. A new call replaces the previous one.
async function estimate(): Promise<void> {
  estimating?.abort()
  const box = find('estimate')
  if (!zones.video.file || !zones.audio.file || !complete() || !options.estimates) { box.textContent = ''; return }
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
  const changed = (settled: boolean): void => { ready(); if (settled) void estimate() }
  const form: Form = { max: options.max_upload, complain, changed }
  const zone = (kind: Kind, noun: string): Zone => new Zone(find(kind + '-file').closest<HTMLElement>('.drop')!, kind, noun, form)
  zones = { video: zone('video', 'face'), audio: zone('audio', 'voice'), mask: zone('mask', 'mask') }
  extras(form)
  find('mask-remove').addEventListener('click', () => {
    zones.mask.drop()
    zones.mask.input.value = ''
    zones.mask.input.focus()
    void estimate()
  })
  recorder((sound, name) => void zones.audio.take(sound, name), complain)
  document.addEventListener('paste', (e) => {
    for (const f of e.clipboardData?.files ?? []) void zones[f.type.startsWith('audio/') ? 'audio' : 'video'].take(f, f.name)
  })
  // A file that is dropped outside a zone must not replace the page.
  for (const type of ['dragover', 'drop']) document.addEventListener(type, (e) => e.preventDefault())
  for (const id of ['basic', 'advanced']) find(id).addEventListener('change', () => changed(true))
  find('form').addEventListener('submit', async (e) => {
    e.preventDefault()
    const start = find<HTMLButtonElement>('start')
    if (start.disabled) return
    start.disabled = true
    complain('')
    try {
      const job = await post<Job>('/v1/jobs', spec())
      for (const u of [...Object.values(zones).map((z) => z.file), ...files()]) if (u) used.add(u.id)
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
