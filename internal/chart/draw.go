package chart

import (
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Sizes on paper, in points.
const (
	chartWidth  = 10 * vg.Inch
	chartHeight = 5 * vg.Inch
	barHeight   = vg.Length(20)
	barSpace    = vg.Length(30) // from bar to bar
	margin      = vg.Length(14)
	small       = vg.Length(11) // of letters
	maxName     = 48            // runes
)

var (
	// palette is that of Okabe and Ito without yellow, which colour-blind people can
	// distinguish.
	palette = []color.RGBA{
		{0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x55, 0x55, 0x55, 0xff},
	}
	// limits are the colours of horizontal lines.
	limits = []color.RGBA{{0xd9, 0x8c, 0x00, 0xff}, {0xc6, 0x28, 0x28, 0xff}, {0x6a, 0x1b, 0x9a, 0xff}}
	// seriesDashes and lineDashes tell apart what shares a colour.
	seriesDashes = [][]vg.Length{nil, {8, 3}, {2, 2}}
	lineDashes   = [][]vg.Length{{6, 4}, {2, 3}, {10, 3, 2, 3}}
	gridColor    = color.RGBA{0xe2, 0xe2, 0xe2, 0xff}
	textColor    = color.RGBA{0x33, 0x33, 0x33, 0xff}
)

// size returns the size of the chart on paper. Many bars or a long legend make it
// higher, so that nothing overlaps.
func (c Chart) size() (width, height vg.Length) {
	if len(c.Bars) > 0 {
		return chartWidth, vg.Length(len(c.Bars))*barSpace + 90
	}
	return chartWidth, max(chartHeight, vg.Length(len(c.Series)+len(c.Lines))*1.5*small+90)
}

func (c Chart) draw(to draw.Canvas) error {
	p := plot.New()
	style(p, c)
	add := c.addLines
	if len(c.Bars) > 0 {
		add = c.addBars
	}
	if err := add(p); err != nil {
		return err
	}
	to = draw.Crop(to, margin, -margin, margin, -margin)
	if len(c.Bars) > 0 {
		p.Draw(to)
		return nil
	}
	// The legend gets a column of its own at the right, where it hides nothing.
	legend := p.Legend
	p.Legend = plot.NewLegend()
	box := legend.Rectangle(to)
	column := box.Max.X - box.Min.X
	legend.Draw(draw.Crop(to, to.Max.X-to.Min.X-column, 0, 0, 0))
	p.Draw(draw.Crop(to, 0, -(column + margin), 0, 0))
	return nil
}

func style(p *plot.Plot, c Chart) {
	face := font.Font{Typeface: "Liberation", Variant: "Sans"}
	set := func(s *text.Style, size vg.Length) {
		f := face
		f.Size = size
		s.Font, s.Color = f, textColor
	}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.Title.Padding = 10
	set(&p.Title.TextStyle, 15)
	p.Title.TextStyle.Font.Weight = 2 // bold
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		set(&axis.Label.TextStyle, 12)
		set(&axis.Tick.Label, small)
		axis.Label.Padding = 6
		axis.Padding = 0
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = textColor, textColor
		axis.Tick.Length = 4
		axis.Tick.Marker = plot.TickerFunc(ticks)
	}
	set(&p.Legend.TextStyle, small)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.YPosition = draw.PosCenter
	p.Legend.YOffs = -30
	p.Legend.Padding = 4
	p.Legend.ThumbnailWidth = 24
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = gridColor, gridColor
	return g
}

// addLines puts the series and the horizontal lines into the plot.
func (c Chart) addLines(p *plot.Plot) error {
	p.Add(grid())
	for i, s := range c.Series {
		col := palette[i%len(palette)]
		dashes := seriesDashes[i/len(palette)%len(seriesDashes)]
		look := draw.LineStyle{Color: col, Width: 2, Dashes: dashes}
		for _, piece := range pieces(s) {
			if len(piece) == 1 { // a line of one point would not be seen
				dot, err := plotter.NewScatter(piece)
				if err != nil {
					return err
				}
				dot.GlyphStyle = draw.GlyphStyle{Color: col, Radius: 3, Shape: draw.CircleGlyph{}}
				p.Add(dot)
				continue
			}
			line, err := plotter.NewLine(piece)
			if err != nil {
				return err
			}
			line.LineStyle = look
			p.Add(line)
		}
		p.Legend.Add(shorten(s.Name), &plotter.Line{LineStyle: look})
	}
	if p.X.Min > p.X.Max { // there is no value
		p.X.Min, p.X.Max = 0, 0
	}
	if p.X.Min == p.X.Max {
		p.X.Max++
	}
	for i, l := range c.Lines {
		if !finite(l.Y) {
			continue
		}
		look := draw.LineStyle{Color: limits[i%len(limits)], Width: 1.5, Dashes: lineDashes[i/len(limits)%len(lineDashes)]}
		line, err := plotter.NewLine(plotter.XYs{{X: p.X.Min, Y: l.Y}, {X: p.X.Max, Y: l.Y}})
		if err != nil {
			return err
		}
		line.LineStyle = look
		p.Add(line)
		p.Legend.Add(shorten(l.Name), &plotter.Line{LineStyle: look})
	}
	fromZero(&p.Y)
	return nil
}

// pieces cuts a series where a value is not finite.
func pieces(s Series) []plotter.XYs {
	var all []plotter.XYs
	gap := true
	for i := range s.X {
		wasGap := gap
		if gap = !finite(s.X[i]) || !finite(s.Y[i]); gap {
			continue
		}
		if wasGap {
			all = append(all, nil)
		}
		last := &all[len(all)-1]
		*last = append(*last, plotter.XY{X: s.X[i], Y: s.Y[i]})
	}
	return all
}

// addBars puts the bars into the plot, the first at the top, each with its
// value written at its end.
func (c Chart) addBars(p *plot.Plot) error {
	vertical := grid()
	vertical.Horizontal.Color = nil
	p.Add(vertical)
	n := len(c.Bars)
	values, names := make(plotter.Values, n), make([]plot.Tick, n)
	at, labels := make(plotter.XYs, n), make([]string, n)
	for i, b := range c.Bars {
		row := n - 1 - i
		names[row] = plot.Tick{Value: float64(row), Label: shorten(b.Name)}
		labels[row] = number(b.Value)
		if finite(b.Value) {
			values[row] = b.Value
		}
		at[row] = plotter.XY{X: max(0, values[row]), Y: float64(row)}
	}
	bars, err := plotter.NewBarChart(values, barHeight)
	if err != nil {
		return err
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, palette[0], 0
	text, err := plotter.NewLabels(plotter.XYLabels{XYs: at, Labels: labels})
	if err != nil {
		return err
	}
	for i := range text.TextStyle {
		text.TextStyle[i] = p.X.Tick.Label
		text.TextStyle[i].XAlign, text.TextStyle[i].YAlign = draw.XLeft, draw.YCenter
	}
	text.Offset = vg.Point{X: 5, Y: 1}
	p.Add(bars, text)
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	p.Y.Tick.Length, p.Y.Tick.Label.YAlign = 0, draw.YCenter
	p.Y.Min, p.Y.Max = -0.6, float64(n)-0.4
	fromZero(&p.X)
	return nil
}

// fromZero extends the range of an axis to zero, with some space at the far end. A
// chart that begins above zero would exaggerate differences.
func fromZero(a *plot.Axis) {
	low, high := min(0, a.Min), max(0, a.Max)
	if low == high {
		a.Min, a.Max = 0, 1
		return
	}
	space := 0.08 * (high - low)
	if low < 0 {
		low -= space
	}
	if high > 0 {
		high += space
	}
	a.Min, a.Max = low, high
}

// ticks marks an axis at multiples of 1, 2 or 5 times a power of ten, at most
// ten of them.
func ticks(low, high float64) []plot.Tick {
	step := tickStep(high - low)
	if step <= 0 || !finite(step) {
		return nil
	}
	decimals := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var all []plot.Tick
	for i := math.Ceil(low/step - 1e-9); i*step <= high+step*1e-9; i++ {
		v := i * step
		all = append(all, plot.Tick{Value: v, Label: strconv.FormatFloat(v+0, 'f', decimals, 64)})
		if len(all) > 20 { // where step is lost in low's digits
			break
		}
	}
	return all
}

func tickStep(width float64) float64 {
	if width <= 0 {
		return 0
	}
	power := math.Pow(10, math.Floor(math.Log10(width)))
	for _, f := range []float64{0.1, 0.2, 0.5, 1} {
		if width/(f*power) <= 10 {
			return f * power
		}
	}
	return 2 * power
}

// number writes a bar's value with three digits, or all of those before the point.
func number(v float64) string {
	decimals := 2
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "no value"
	case math.IsInf(v, 1):
		return "infinite"
	case math.IsInf(v, -1):
		return "-infinite"
	case a >= 100:
		decimals = 0
	case a >= 10:
		decimals = 1
	case a > 0 && a < 0.995:
		decimals = min(9, 2-int(math.Floor(math.Log10(a))))
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

func shorten(name string) string {
	r := []rune(name)
	if len(r) <= maxName {
		return name
	}
	return string(r[:maxName-1]) + "…"
}
