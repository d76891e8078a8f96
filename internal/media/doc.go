// Package media reads and writes video and sound through ffmpeg and ffprobe
// processes. Raw frames and samples stream over pipes, so memory does not
// depend on the length of a file.
//
// A job calls FindTools, Probe and Choose, then opens a VideoSource (or a
// Sequence, if the video has to last longer than its file), an AudioSource and a
// Sink. A frame that nobody edits passes unchanged, bit for bit, because the
// working format keeps the chroma subsampling, the range and 8 or 10 bits.
// WorkingFormat lists the exceptions.
//
// Alpha is straight (not premultiplied). It is kept if the codec of the output can keep
// it (EncodingFor); else it is flattened over black, and Choose returns a warning.
package media
