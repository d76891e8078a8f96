// Package media reads and writes video and sound through ffmpeg and ffprobe
// processes. Raw frames and samples stream over pipes, so memory does not
// depend on the length of a file.
//
// The way of a job: FindTools, Probe, WorkingFormat, then a VideoSource (or a
// Sequence, when the picture has to last longer than its file), an AudioSource
// and a Sink. A frame that nobody edits goes through unchanged, bit for bit:
// the working format keeps the chroma subsampling, the range and 8 or 10 bits.
// What cannot be kept is said at WorkingFormat.
//
// Alpha is taken as straight (not premultiplied) and flattened over black.
package media
