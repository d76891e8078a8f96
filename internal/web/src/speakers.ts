import { Upload } from './api'
import { given } from './settings'
import { find, make } from './text'
import { Form, Zone } from './zone'

// Row is a further sound of the form: the voice of another face, or the sound of the result.
interface Row { who: HTMLSelectElement | undefined; twice: HTMLElement; zone: Zone }

const faces: [string, string][] = [
  ['left', 'Leftmost'], ['right', 'Rightmost'], ['center', 'In the centre'], ['largest', 'Largest'],
  ['2', '2nd from the left'], ['3', '3rd from the left'], ['4', '4th from the left'],
]
const rows = new Set<Row>()
const most = 5 // speakers besides the first
let count = 0

// first returns the face of the first voice.
function first(): string {
  const face = String(given()['face'] ?? 'largest')
  return face === '1' ? 'left' : face
}

// add shows a row.
function add(speaker: boolean, form: Form): void {
  const id = 'extra-' + ++count
  const who = speaker ? make('select', { id: id + '-who', 'aria-describedby': id + '-twice' }, ...faces.map(([value, text]) => make('option', { value }, text))) : undefined
  const name = speaker ? 'Voice of another face' : 'Sound of the result'
  const remove = make('button', { type: 'button', 'aria-label': 'Remove: ' + name }, 'Remove')
  const twice = make('p', { id: id + '-twice', class: 'error', hidden: '' }, 'This face has a voice already. Choose another one.')
  const box = make('div', { class: 'drop' }, make('label', { for: id }, name),
    make('input', { id, type: 'file', accept: 'audio/*,video/*,.mkv', 'aria-describedby': id + '-state' }),
    make('p', { class: 'state', id: id + '-state', 'aria-live': 'polite' }),
    make('progress', { max: '1', value: '0', 'aria-label': 'Upload: ' + name, hidden: '' }), make('div', { class: 'thumb' }))
  if (who) {
    const taken = new Set([first(), ...[...rows].map((r) => r.who?.value)])
    who.value = (faces.find(([value]) => !taken.has(value)) ?? faces[0]!)[0]
    who.addEventListener('change', () => form.changed(true))
    box.append(make('label', { for: who.id }, 'Which face'), who, twice)
  }
  box.append(remove)
  const row: Row = { who, twice, zone: new Zone(box, 'audio', name.toLowerCase(), form) }
  remove.addEventListener('click', () => {
    row.zone.drop()
    rows.delete(row)
    box.remove()
    limit()
    form.changed(true)
    find(speaker ? 'add-speaker' : 'add-soundtrack').focus()
  })
  rows.add(row)
  find('extras').append(box)
  limit()
  row.zone.input.focus()
  form.changed(true)
}

function limit(): void {
  const speakers = [...rows].filter((r) => r.who).length
  find<HTMLButtonElement>('add-speaker').disabled = speakers >= most
  find<HTMLButtonElement>('add-soundtrack').disabled = rows.size > speakers
}

// extras prepares the buttons that add rows.
export function extras(form: Form): void {
  find('add-speaker').addEventListener('click', () => add(true, form))
  find('add-soundtrack').addEventListener('click', () => add(false, form))
}

// complete reports whether every row has a file, and a face of its own. It marks faces with two voices.
export function complete(): boolean {
  const taken = new Set([first()])
  let ok = true
  for (const { who, twice, zone } of rows) {
    twice.hidden = !who || !taken.has(who.value)
    who?.setAttribute('aria-invalid', String(!twice.hidden))
    if (who) taken.add(who.value)
    ok &&= !!zone.file && twice.hidden
  }
  return ok
}

// files returns the uploads of all rows.
export function files(): Upload[] { return [...rows].flatMap((r) => r.zone.file ?? []) }

// sounds returns the part of a request that concerns sound. face is that of the first voice.
export function sounds(voice: Upload | undefined, face: unknown): Record<string, unknown> {
  const track = [...rows].find((r) => !r.who)
  const more = [...rows].filter((r) => r.who).map((r) => ({ face: r.who?.value, audio: { upload: r.zone.file?.id } }))
  const audio = { upload: voice?.id }
  return {
    ...(more.length > 0 ? { speakers: [{ face: face ?? 'largest', audio }, ...more], face: undefined } : { audio }),
    ...(track ? { soundtrack: { upload: track.zone.file?.id } } : {}),
  }
}
