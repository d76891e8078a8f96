// Package demo holds a face and a voice to try Lipstream with; README.md tells
// where they come from. They are files here, for the examples in the
// documentation and the end-to-end tests, and embedded, for lipstream bench,
// which needs inputs on machines that have only the binary.
package demo

import _ "embed" // the files

// Portrait is portrait.png: 512 x 512 pixels, one frontal face.
//
//go:embed portrait.png
var Portrait []byte

// Speech is speech.wav: 6.04 s of English, 16-bit mono PCM at 22,050 Hz, with
// one second of silence in the middle.
//
//go:embed speech.wav
var Speech []byte
