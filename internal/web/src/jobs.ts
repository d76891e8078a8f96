import { Failure, Job, Progress, request } from './api'
import { bytes, duration, find, make, phases, when } from './text'

const names: Record<Job['state'], string> = { queued: 'Waiting', running: 'Running', done: 'Done', failed: 'Failed', cancelled: 'Cancelled' }

// cards holds the elements of each job. They are kept when a job changes, and with them focus and players.
const cards = new Map<string, Card>()

class Card {
  readonly item = make('li')
  private readonly title = make('h3')
  private readonly badge = make('span', { class: 'badge' })
  private readonly about = make('p', { class: 'quiet' })
  private readonly status = make('p', { class: 'state' })
  private readonly bar = make('progress', { max: '1' })
  private readonly preview = make('img', { alt: '' })
  private readonly live = make('div', { class: 'live' })
  private readonly body = make('div')
  private readonly actions = make('div', { class: 'actions' })
  private readonly error = make('p', { class: 'error' })
  private events: EventSource | undefined
  private shown = ''
  private announced = ''
  private frame = -1
  private previewAt = 0
  job: Job

  constructor(job: Job) {
    this.job = job
    this.live.append(make('div', {}, this.status, this.bar), this.preview)
    this.preview.hidden = true
    this.preview.addEventListener('load', () => { this.preview.hidden = false })
    this.preview.addEventListener('error', () => { this.preview.hidden = true })
    this.item.append(make('div', { class: 'head' }, this.title, this.badge), this.about, this.live, this.error, this.body, this.actions)
    this.item.id = 'job-' + job.id
    this.update(job)
  }

  update(job: Job): void {
    this.job = job
    const name = job.spec.name ?? job.video.name
    this.title.textContent = name
    this.badge.textContent = job.cancelling ? 'Stopping' : names[job.state]
    this.item.className = job.state
    this.about.textContent = `${job.video.name} with ${(job.voices ?? [job.audio]).map((v) => v.name).join(' and ')}, ${job.result?.engine ?? job.engine}, ${when(job.created)}`
    this.bar.setAttribute('aria-label', `Progress of ${name}`)
    this.live.hidden = job.state !== 'running' && job.state !== 'queued'
    this.bar.hidden = job.state !== 'running'
    if (job.state === 'queued') this.status.textContent = 'Waiting for a worker'
    if (job.state === 'running') {
      if (job.progress) this.progress(job.progress)
      this.follow()
    } else {
      this.events?.close()
      this.events = undefined
      this.preview.hidden = true
    }
    this.error.hidden = job.state !== 'failed'
    if (job.problem) this.error.textContent = job.problem.hint ? `${job.problem.message} — ${job.problem.hint}` : job.problem.message
    this.announce(name)
    const look = `${job.state} ${job.cancelling ?? ''}`
    if (look !== this.shown) {
      this.shown = look
      this.buttons(name)
      this.players()
    }
  }

  // announce lets a screen reader announce changes of state only. Progress changes
  // all the time; it can be read at the bar.
  private announce(name: string): void {
    const text = `${name}: ${this.badge.textContent}` + (this.job.problem && this.job.state === 'failed' ? `. ${this.job.problem.message}` : '')
    if (this.announced !== '' && this.announced !== text) find('news').textContent = text
    this.announced = text
  }

  // follow shows progress as it arrives. The browser reconnects a broken stream by
  // itself.
  private follow(): void {
    if (this.events) return
    this.events = new EventSource(this.job.links.events)
    this.events.addEventListener('progress', (e) => {
      const p = JSON.parse((e as MessageEvent<string>).data) as Progress
      if (this.job.tasks.length <= 1) this.progress(p) // for a split job, the list of jobs has the sum of all tasks
    })
    for (const last of ['done', 'error']) this.events.addEventListener(last, () => { this.events?.close() })
  }

  private progress(p: Progress): void {
    let text = phases[p.phase] ?? p.phase
    if (p.phase === 'frames') {
      text = `Frame ${p.frame}` + (p.frames > 0 ? ` of ${p.frames}` : '')
      if (p.steps) text += `, step ${p.step} of ${p.steps}`
      if (p.fps > 0) text += `, ${p.fps.toFixed(1)} fps`
      if (p.eta_s && p.eta_s > 0) text += `, ${duration(p.eta_s)} left`
    }
    if (p.memory_now > 0) text += `. Memory ${bytes(p.memory_now)}, at most ${bytes(p.memory_peak)}`
    this.status.textContent = text
    if (p.phase === 'frames' && p.frames > 0) this.bar.value = p.frame / p.frames
    else this.bar.removeAttribute('value')
    if (p.frame !== this.frame && Date.now() - this.previewAt > 1000) {
      this.frame = p.frame
      this.previewAt = Date.now()
      this.preview.src = `${this.job.links.preview}?frame=${p.frame}`
      this.preview.alt = `Frame ${p.frame} of the result`
    }
  }

  private buttons(name: string): void {
    const held = this.actions.contains(document.activeElement)
    const button = (text: string, what: () => Promise<unknown>): HTMLButtonElement => {
      const b = make('button', { type: 'button' }, text, make('span', { class: 'skip' }, ' ' + name))
      b.addEventListener('click', async () => {
        b.disabled = true
        try {
          await what()
        } catch (e) {
          this.error.hidden = false
          this.error.textContent = e instanceof Failure ? e.text : String(e)
          b.disabled = false
        }
      })
      return b
    }
    const path = `/v1/jobs/${this.job.id}`
    const all: HTMLElement[] = []
    switch (this.job.state) {
      case 'queued': case 'running':
        if (!this.job.cancelling) all.push(button('Cancel', () => request(path, { method: 'DELETE' })))
        break
      case 'done':
        all.push(make('a', { class: 'button', href: this.job.links.result + '?download=1', download: this.job.result?.name ?? '' }, 'Download', make('span', { class: 'skip' }, ' ' + name)))
        break
      default:
        all.push(button('Retry', () => request(path + '/retry', { method: 'POST' })))
    }
    if (['done', 'failed', 'cancelled'].includes(this.job.state)) all.push(button('Remove', () => request(path, { method: 'DELETE' })))
    this.actions.replaceChildren(...all)
    if (held) (all[0] ?? find('jobs')).focus()
  }

  // players shows source and result side by side, in sync.
  private players(): void {
    const r = this.job.result
    if (this.job.state !== 'done' || !r) { this.body.replaceChildren(); return }
    const facts = `${r.width} by ${r.height}, ${r.frames} frames, ${duration(r.duration)}, ${bytes(r.size)}` + (r.no_face ? `; ${r.no_face} frames without a face are unchanged` : '')
    const result = make('video', { controls: '', preload: 'metadata', playsinline: '', src: this.job.links.result ?? '', 'aria-label': 'Result' })
    const picture = /\.(png|jpe?g|webp)$/i.test(this.job.video.name)
    const source = picture
      ? make('img', { src: this.job.links.video, alt: 'Source' })
      : make('video', { preload: 'metadata', playsinline: '', muted: '', src: this.job.links.video, 'aria-label': 'Source' })
    if (source instanceof HTMLVideoElement) {
      source.muted = true
      const step = (): void => { if (Math.abs(source.currentTime - result.currentTime) > 0.1) source.currentTime = result.currentTime }
      result.addEventListener('play', () => { step(); void source.play().catch(() => undefined) })
      result.addEventListener('pause', () => { source.pause(); step() })
      result.addEventListener('seeked', step)
      result.addEventListener('timeupdate', step)
      result.addEventListener('ratechange', () => { source.playbackRate = result.playbackRate })
    }
    this.body.replaceChildren(
      make('div', { class: 'players' }, make('figure', {}, source, make('figcaption', {}, 'Source')), make('figure', {}, result, make('figcaption', {}, 'Result: ' + facts))))
  }

  remove(): void {
    this.events?.close()
    this.item.remove()
  }
}

function show(job: Job): void {
  const list = find('jobs')
  const card = cards.get(job.id)
  if (card) {
    card.update(job)
    return
  }
  const made = new Card(job)
  cards.set(job.id, made)
  const after = [...cards.keys()].filter((id) => id < job.id).sort().pop()
  list.insertBefore(made.item, after ? cards.get(after)!.item : null)
  find('empty').hidden = cards.size > 0
}

function forget(id: string): void {
  cards.get(id)?.remove()
  cards.delete(id)
  find('empty').hidden = cards.size > 0
}

// follow keeps the list in sync with the server.
export function follow(): void {
  let seen = new Set<string>(), listed = false
  const events = new EventSource('/v1/events')
  events.addEventListener('open', () => { seen = new Set(); listed = false })
  events.addEventListener('job', (e) => {
    const job = JSON.parse((e as MessageEvent<string>).data) as Job
    if (!listed) seen.add(job.id)
    show(job)
  })
  events.addEventListener('listed', () => {
    listed = true
    for (const id of [...cards.keys()]) if (!seen.has(id)) forget(id)
  })
  events.addEventListener('removed', (e) => forget((JSON.parse((e as MessageEvent<string>).data) as { id: string }).id))
  events.addEventListener('error', () => {
    if (events.readyState !== EventSource.CLOSED) return
    setTimeout(() => { request('/v1/options').then(follow, () => follow()) }, 2000)
  })
}

export { show }
