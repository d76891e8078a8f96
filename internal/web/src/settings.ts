import { Engine, Options, Setting } from './api'
import { find, make } from './text'

// values has a function for each control that returns its value, or undefined if the user left the default.
const values = new Map<string, () => string | number | undefined>()

// given returns the settings that the user changed.
export function given(): Record<string, string | number> {
  const all: Record<string, string | number> = {}
  for (const [name, value] of values) {
    const v = value()
    if (v !== undefined) all[name] = v
  }
  return all
}

// build makes a labelled control for each setting, under the heading of its group.
export function build(options: Options): void {
  for (const s of options.settings) {
    const control = s.name === 'engine' ? engine(s, options.engines) : s.name === 'face' ? face(s) : s.choices ? select(s) : input(s)
    group(find(s.advanced ? 'advanced' : 'basic'), s.group ?? '').append(control)
  }
}

function group(box: HTMLElement, name: string): HTMLElement {
  const last = box.lastElementChild as HTMLElement | null
  if (last?.dataset['group'] === name) return last.querySelector<HTMLElement>('.fields')!
  const fields = make('div', { class: 'fields' })
  box.append(name ? make('fieldset', { 'data-group': name }, make('legend', {}, name), fields) : make('div', { 'data-group': name }, fields))
  return fields
}

function labelled(s: Setting, control: HTMLElement, ...more: HTMLElement[]): HTMLElement {
  control.id = 'setting-' + s.name
  control.setAttribute('aria-describedby', control.id + '-help')
  const title = s.unit === 'pixels' ? `${s.title} (pixels)` : s.title
  const cut = (s.otherwise?.length ?? 0) > 20 || s.choices // then the control cannot show it
  const help = s.help + (s.otherwise && cut ? ` Default: ${s.otherwise}.` : '')
  return make('div', {}, make('label', { for: control.id }, title), control, ...more, make('p', { class: 'quiet', id: control.id + '-help' }, help))
}

function choices(list: [value: string, text: string][]): HTMLSelectElement {
  return make('select', {}, ...list.map(([value, text]) => make('option', { value }, text)))
}

function select(s: Setting): HTMLElement {
  const list = (s.choices ?? []).map((c): [string, string] => [c, c])
  if (!s.default) list.unshift(['', 'default'])
  const control = choices(list)
  control.value = s.default ?? ''
  values.set(s.name, () => control.value === (s.default ?? '') ? undefined : control.value)
  return labelled(s, control)
}

// engine disables the engines that no worker has, with what to do about it, and describes the chosen one.
function engine(s: Setting, engines: Engine[]): HTMLElement {
  const field = select(s), control = field.querySelector('select')!, help = field.querySelector('p')!
  const how = engines.filter((e) => !e.available && e.install).map((e) => `${e.name} (${e.install})`)
  if (how.length > 0) {
    field.append(make('p', { class: 'quiet', id: 'engines-missing' }, `Not available: ${how.join(', ')}. Run the command where the worker runs, then restart the worker.`))
    control.setAttribute('aria-describedby', help.id + ' engines-missing')
  }
  for (const option of control.options) {
    const e = engines.find((e) => e.name === option.value)
    if (e?.available !== false) continue
    option.disabled = true
    option.text += ' (not available)'
  }
  const explain = (): void => { help.textContent = engines.find((e) => e.name === control.value)?.description ?? s.help }
  control.addEventListener('change', explain)
  explain()
  return field
}

function face(s: Setting): HTMLElement {
  const control = choices([['largest', 'The largest'], ['center', 'In the center'], ['left', 'Left'], ['right', 'Right'], ['number', 'By number']])
  const number = make('input', { id: 'face-number', type: 'number', min: '1', step: '1', value: '1' })
  const box = make('div', { id: 'face-number-field' }, make('label', { for: 'face-number' }, 'Face, counted from the left'), number)
  box.hidden = true
  control.addEventListener('change', () => { box.hidden = control.value !== 'number' })
  values.set(s.name, () => control.value === s.default ? undefined : control.value === 'number' ? number.value || '1' : control.value)
  return labelled(s, control, box)
}

// input takes times and sizes as text, which may have units.
function input(s: Setting): HTMLElement {
  const numeric = s.type !== 'string' && s.unit !== 's' && s.unit !== 'bytes'
  const control = make('input', { type: numeric ? 'number' : 'text', placeholder: s.default ?? s.otherwise ?? '', autocomplete: 'off', spellcheck: 'false' })
  if (numeric) {
    if (s.min !== undefined) control.min = String(s.min)
    if (s.max !== undefined) control.max = String(s.max)
    control.step = String(s.multiple ?? (s.type === 'integer' ? 1 : 0.1))
  }
  values.set(s.name, () => {
    if (!numeric) return control.value.trim() || undefined
    return Number.isNaN(control.valueAsNumber) ? undefined : control.valueAsNumber
  })
  return labelled(s, control)
}
