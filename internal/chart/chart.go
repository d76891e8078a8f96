// Package chart draws line charts and bar charts into PNG and SVG files.
package chart

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// Series is one line. X and Y have the same length, and X rises. A value that is
// not finite leaves a gap.
type Series struct {
	Name string
	X, Y []float64
}

// Line is a horizontal line across the chart, such as a limit.
type Line struct {
	Name string
	Y    float64
}

// Bar is a value with a name. A value that is not finite is written without a bar.
type Bar struct {
	Name  string
	Value float64
}

// Chart is a line chart of Series and Lines, or a chart of horizontal Bars,
// the first one at the top. X and Y are the labels of the axes and should
// have the unit in them: "time (s)". With Bars, X is the label of their
// values and Y that of their names, mostly "".
type Chart struct {
	Title, X, Y string
	Series      []Series
	Lines       []Line
	Bars        []Bar
}

// dpi of PNG files: text stays sharp on screens of high resolution.
const dpi = 144

// CheckPath returns an error of kind Usage if Save cannot write to path, the value
// of a setting: its name has to end in .png or .svg, in any case.
func CheckPath(setting, path string) error {
	switch format(path) {
	case ".png", ".svg":
		return nil
	}
	return fault.Field(setting, path, "is not the name of a PNG or SVG file", "choose a name that ends in .png or .svg")
}

func format(path string) string { return strings.ToLower(filepath.Ext(path)) }

// Save writes the chart as PNG or SVG, by the ending of the name. The file
// appears complete or not at all, and replaces an existing one. The kind of an
// error is Usage for another ending, Output if the file cannot be written, and
// Internal for an invalid chart (an empty one, X and Y of unequal length, both
// lines and bars).
func (c Chart) Save(path string) error {
	if err := CheckPath("", path); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return fault.Internal.Wrap("draw chart "+c.Title, err)
	}
	width, height := c.size()
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	if format(path) == ".svg" {
		canvas = vgsvg.New(width, height)
	} else {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dpi))}
	}
	if err := c.draw(draw.New(canvas)); err != nil {
		return fault.Internal.Wrap("draw chart "+c.Title, err)
	}
	err := disk.Write(path, 0o644, func(w io.Writer) error {
		_, err := canvas.WriteTo(w)
		return err
	})
	return fault.Output.Wrap("write chart "+path, fault.WithoutPath(err), "check the folder and the space that is left")
}

func (c Chart) check() error {
	lines := len(c.Series) + len(c.Lines)
	if lines > 0 && len(c.Bars) > 0 {
		return errors.New("it has lines and bars, where only one of them can be drawn")
	}
	if lines == 0 && len(c.Bars) == 0 {
		return errors.New("there is nothing in it")
	}
	for _, s := range c.Series {
		if len(s.X) != len(s.Y) {
			return fmt.Errorf("series %q has %d X and %d Y", s.Name, len(s.X), len(s.Y))
		}
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
