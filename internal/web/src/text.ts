// Text for the page: sizes, durations, dates, elements.

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let i = 0
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++ }
  return `${i > 1 ? n.toFixed(1) : Math.round(n)} ${units[i]}`
}

export function duration(s: number): string {
  s = Math.round(s)
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
}

export function when(text: string): string {
  return new Date(text).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })
}

export const phases: Record<string, string> = {
  probe: 'Reading the files', load: 'Loading the networks', listen: 'Listening to the voice', frames: 'Making frames', finish: 'Finishing the file',
}

// make creates an element. Text is never parsed as HTML.
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Record<string, string> = {}, ...children: (Node | string)[]): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag)
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v)
  e.append(...children)
  return e
}

export function find<T extends HTMLElement>(id: string): T { return document.getElementById(id) as T }
