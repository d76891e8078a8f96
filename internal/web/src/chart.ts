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

// draw shows each memory over time, with where warning and alert begin.
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
  if (banner.dataset['what'] !== alerts.map((a) => a.split(':')[0]).join()) { // said once, not at every reading
    banner.dataset['what'] = alerts.map((a) => a.split(':')[0]).join()
    banner.textContent = text
  }
  banner.hidden = alerts.length === 0
}

// watch draws what the server reads, as often as it reads.
export async function watch(): Promise<void> {
  for (;;) {
    let pause = 2
    if (!document.hidden) {
      try {
        const m = await get<Memory>('/v1/memory')
        draw(m)
        pause = m.interval_s
      } catch { pause = 5 }
    }
    await new Promise((go) => setTimeout(go, pause * 1000))
  }
}
