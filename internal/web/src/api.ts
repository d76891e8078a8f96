// Requests and answers of the server: see /v1/openapi.json.

export interface Problem { title: string; status: number; detail?: string; hint?: string }

export interface Progress {
  phase: string; frame: number; frames: number; fps: number; eta_s?: number
  step?: number; steps?: number; memory_now: number; memory_peak: number
}

export interface Job {
  id: string; state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled'
  engine: string; created: string; started?: string; ended?: string; cancelling?: boolean
  spec: { name?: string }
  video: { name: string; size: number }; audio: { name: string; size: number }
  voices?: { name: string; size: number }[]
  tasks: { kind: string; state: string }[]
  result?: { name: string; size: number; frames: number; fps: number; width: number; height: number; duration: number; engine: string; no_face: number }
  problem?: { message: string; hint?: string }
  progress?: Progress
  links: { events: string; result?: string; preview: string; video: string; audio: string }
}

export interface MediaInfo { kind: 'video' | 'picture' | 'audio'; width?: number; height?: number; fps?: number; duration?: number; has_audio: boolean }
export interface Upload { id: string; name: string; size: number; complete: boolean; media?: MediaInfo }
export interface Estimate { engine: string; frames: number; fps: number; needs?: number; budget?: number; total_seconds?: number; speech_seconds: number; memory_peak: number }
export interface Engine { name: string; available: boolean; description: string; install?: string }
export interface Setting {
  name: string; title: string; group?: string; help: string; type: 'string' | 'integer' | 'number'; choices?: string[]
  default?: string; otherwise?: string; min?: number; max?: number; multiple?: number; unit?: 's' | 'bytes' | 'pixels'; advanced?: boolean
}
export interface Options { version: string; engines: Engine[]; settings: Setting[]; containers: string[]; max_upload: number; estimates: boolean }
export interface Threshold { share?: number; bytes?: number }
export interface Watched { name: string; used: number; total: number; level: string }
export interface Memory { interval_s: number; warning: Threshold; critical: Threshold; history: { time: string; watched: Watched[] }[] }

// Failure is a failed request, with a message for the user.
export class Failure extends Error {
  constructor(readonly status: number, message: string, readonly hint = '') { super(message) }
  get text(): string { return this.hint ? `${this.message} — ${this.hint}` : this.message }
}

// wantToken is called when the server requires a token. It resolves when the user has entered it.
let wantToken: () => Promise<void> = () => Promise.reject(new Failure(401, 'a token is needed'))
export function onToken(ask: () => Promise<void>): void { wantToken = ask }

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(path, init)
  } catch (e) {
    if (init.signal?.aborted) throw e
    throw new Failure(0, 'The server does not answer', 'check that lipstream serve is still running')
  }
  if (answer.status === 401) {
    await wantToken()
    return request(path, init)
  }
  if (!answer.ok) throw await failure(answer)
  return answer
}

export async function failure(answer: Response): Promise<Failure> {
  try {
    const p = await answer.json() as Problem
    return new Failure(answer.status, p.detail || p.title, p.hint)
  } catch {
    return new Failure(answer.status, `The server answered ${answer.status}`)
  }
}

export async function get<T>(path: string): Promise<T> { return await (await request(path)).json() as T }

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }
  if (signal) init.signal = signal
  return await (await request(path, init)).json() as T
}

const piece = 8 * 1024 * 1024
const tus = { 'Tus-Resumable': '1.0.0' }

export const wait = (ms: number): Promise<void> => new Promise((go) => setTimeout(go, ms))

// passing reports whether the same request may succeed a moment later.
export function passing(e: unknown): boolean { return e instanceof Failure && (e.status === 0 || e.status >= 500) }

// insist retries for some seconds when the server does not answer.
async function insist<T>(signal: AbortSignal, what: () => Promise<T>): Promise<T> {
  for (let failed = 1; ; failed++) {
    try {
      return await what()
    } catch (e) {
      if (signal.aborted || !passing(e) || failed > 8) throw e
      await wait(250 * failed)
    }
  }
}

// upload sends a file in pieces. After a broken connection it continues where the server stopped.
// An upload that fails or is cancelled is removed from the server.
export async function upload(file: File | Blob, name: string, signal: AbortSignal, progress: (share: number) => void): Promise<Upload> {
  const bytes = new TextEncoder().encode(name)
  const made = await insist(signal, () => request('/v1/uploads', {
    method: 'POST', signal,
    headers: { ...tus, 'Upload-Length': String(file.size), 'Upload-Metadata': 'filename ' + btoa(String.fromCharCode(...bytes)) },
  }))
  const place = made.headers.get('Location') ?? ''
  try {
    for (let at = 0; at < file.size;) {
      progress(at / file.size)
      try {
        const sent = await request(place, {
          method: 'PATCH', signal, body: file.slice(at, at + piece),
          headers: { ...tus, 'Upload-Offset': String(at), 'Content-Type': 'application/offset+octet-stream' },
        })
        at = Number(sent.headers.get('Upload-Offset'))
      } catch (e) {
        if (signal.aborted || !passing(e) && !(e instanceof Failure && e.status === 409)) throw e
        const head = await insist(signal, () => request(place, { method: 'HEAD', headers: tus, signal }))
        at = Number(head.headers.get('Upload-Offset'))
      }
    }
    progress(1)
    return await insist(signal, () => get<Upload>(place))
  } catch (e) {
    discard(place)
    throw e
  }
}

// discard removes an upload that no job uses. If this fails, the server removes it
// after its retention.
export function discard(place: string): void {
  void fetch(place, { method: 'DELETE', headers: tus, keepalive: true }).catch(() => undefined)
}
