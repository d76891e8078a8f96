import { get, Memory, Threshold } from './api'
import { bytes, find, make } from './text'

const svgNS = 'http://www.w3.org/2000/svg'
const width = 600, height = 100

function shape(tag: string, attributes: Record<string, string | number>): SVGElement {
  const e = document.createElementNS(svgNS, tag)
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, String(v))
  return e
}

const names: Record<string, string> = { host: 'This machine', cgroup: 'Control group' }

function share(t: Threshold, total: number): number { return t.share ?? (total > 0 ? (t.bytes ?? 0) / total : 1) }

// draw shows the use of each memory over time, with the thresholds.
export function draw(m: Memory): void {
  const last = m.history[m.history.length - 1]
  const charts = find('charts')
  const alerts: string[] = []
  const figures: HTMLElement[] = []
  for (const w of last?.watched ?? []) {
    const points: [number, number][] = []
    const first = Date.parse(m.history[0]!.time), span = Math.max(1, Date.parse(last!.time) - first)
    for (const r of m.history) {
      const at = r.watched.find((x) => x.name === w.name)
      if (at && at.total > 0) points.push([(Date.parse(r.time) - first) / span * width, height - at.used / at.total * height])
    }
    const name = names[w.name] ?? w.name
    const percent = w.total > 0 ? Math.round(w.used / w.total * 100) : 0
    const words = `${name}: ${bytes(w.used)} of ${bytes(w.total)} in use, ${percent} %` + (w.level === 'normal' ? '' : `, ${w.level}`)
    const svg = shape('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': words })
    if (points.length > 1) {
      const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' L')
      svg.append(shape('path', { class: 'area', d: `M0,${height} L${line} L${width},${height} Z` }))
    }
    for (const [kind, t] of [['warning', m.warning], ['critical', m.critical]] as const) {
      const y = height - share(t, w.total) * height
      svg.append(shape('line', { class: kind, x1: 0, x2: width, y1: y, y2: y }))
    }
    const caption = make('figcaption', {}, `${words}. Warning from ${Math.round(share(m.warning, w.total) * 100)} %, alert from ${Math.round(share(m.critical, w.total) * 100)} %.`)
    const figure = make('figure', { class: 'chart' }, caption)
    figure.prepend(svg)
    figures.push(figure)
    if (w.level !== 'normal') alerts.push(`${w.level === 'critical' ? 'Memory alert' : 'Memory warning'}: ${words}`)
  }
  charts.replaceChildren(...figures)
  const banner = find('alert'), text = alerts.join('. ')
  if (banner.dataset['what'] !== alerts.map((a) => a.split(':')[0]).join()) { // announced once, not at every reading
    banner.dataset['what'] = alerts.map((a) => a.split(':')[0]).join()
    banner.textContent = text
  }
  banner.hidden = alerts.length === 0
}

// table lists ten of the readings. It is filled only when it is opened, so that it
// does not change while somebody reads it.
function table(m: Memory): void {
  const every = Math.max(1, Math.ceil(m.history.length / 10))
  const rows = m.history.filter((_, i) => (m.history.length - 1 - i) % every === 0).map((r) => make('tr', {},
    make('th', { scope: 'row' }, new Date(r.time).toLocaleTimeString()),
    ...r.watched.map((w) => make('td', {}, `${bytes(w.used)} of ${bytes(w.total)}`))))
  const head = make('tr', {}, make('th', { scope: 'col' }, 'Time'),
    ...(m.history[m.history.length - 1]?.watched ?? []).map((w) => make('th', { scope: 'col' }, names[w.name] ?? w.name)))
  find('readings').replaceChildren(make('thead', {}, head), make('tbody', {}, ...rows))
}

// watch draws the readings of the server at the interval at which it takes them.
export async function watch(): Promise<void> {
  let latest: Memory | undefined
  const details = find('readings').closest('details')!
  details.addEventListener('toggle', () => { if (details.open && latest) table(latest) })
  for (;;) {
    let pause = 2
    if (!document.hidden) {
      try {
        latest = await get<Memory>('/v1/memory')
        draw(latest)
        pause = Math.max(1, latest.interval_s)
      } catch { pause = 5 }
    }
    await new Promise((go) => setTimeout(go, pause * 1000))
  }
}
