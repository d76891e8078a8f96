// Package facetest has a face for tests of engines.
package facetest

import (
	"bytes"
	"image/png"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/testdata/demo"
)

// Picture returns the demo's picture.
func Picture(t testing.TB) *frame.RGB {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(demo.Portrait))
	if err != nil {
		t.Fatal(err)
	}
	return frametest.FromImage(m)
}

// Frame returns the demo's picture as a frame in a format, whose size it sets, and its face.
func Frame(t testing.TB, format frame.Format) (*frame.Frame, *face.Face) {
	t.Helper()
	rgb := Picture(t)
	format.Width, format.Height = rgb.W, rgb.H
	f := frame.New(format)
	frametest.Fill(f, rgb)
	return f, Portrait(t, 1)
}

// Portrait returns the face of the demo's picture as the mesh network finds it, in the
// picture reduced to 1/shrink of its size. Call it from a test of a package in internal.
func Portrait(t testing.TB, shrink float64) *face.Face {
	t.Helper()
	var points [][3]float64
	golden.ReadJSON(t, "../preview/testdata/portrait_points.json", &points)
	fc := &face.Face{Score: 1}
	for _, p := range points {
		centre := (1/shrink - 1) / 2 // of the first pixel
		fc.Points = append(fc.Points, face.Point{X: p[0]/shrink + centre, Y: p[1]/shrink + centre, Z: p[2] / shrink})
	}
	fc.Align = face.TemplateAffine(face.AlignPoints468(fc.Points))
	return fc
}
