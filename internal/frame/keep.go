package frame

// Keep blends source, which has the format of f, back into f: where the mask is 0, f becomes
// source bit for bit, where it is 255, f stays, and between them the samples are mixed. The
// mask has a value for each luma sample. A chroma sample takes the least of the values of
// the pixels that share it, so that no pixel of mask 0 changes its colour.
func (f *Frame) Keep(source *Frame, mask []byte) {
	if source.Format != f.Format || len(mask) != f.Width*f.Height {
		panic("frame: keep a frame of another format, or with a mask of another size")
	}
	for i := range 3 {
		if f.SampleBytes() == 1 {
			keepPlane[uint8](f, source, mask, i)
		} else {
			keepPlane[uint16](f, source, mask, i)
		}
	}
}

func keepPlane[T sample](f, source *Frame, mask []byte, i int) {
	dst, src := plane[T](f, i), plane[T](source, i)
	w, h := f.PlaneSize(i)
	sx, sy := f.ShiftX, f.ShiftY
	if i == 0 {
		sx, sy = 0, 0
	}
	bytes := w * f.SampleBytes()
	for y := range h {
		if string(f.Planes[i][y*bytes:(y+1)*bytes]) == string(source.Planes[i][y*bytes:(y+1)*bytes]) {
			continue // as most rows are
		}
		to, from := dst[y*w:(y+1)*w], src[y*w:(y+1)*w]
		for x, s := range from {
			d := to[x]
			if d == s {
				continue
			}
			m := uint32(255)
			for yy := y << sy; yy < min((y+1)<<sy, f.Height); yy++ {
				for xx := x << sx; xx < min((x+1)<<sx, f.Width); xx++ {
					m = min(m, uint32(mask[yy*f.Width+xx]))
				}
			}
			to[x] = T((uint32(d)*m + uint32(s)*(255-m) + 127) / 255)
		}
	}
}
