package frame

// coefficients of a format: luma weights, and what zero and full scale are in
// sample values (luma 0..1 -> yZero..yZero+yScale, chroma -0.5..0.5 ->
// cZero -+ cScale/2).
type coefficients struct {
	kr, kg, kb    float64
	yZero, yScale float64
	cZero, cScale float64
}

func (f Format) coefficients() coefficients {
	var c coefficients
	switch f.Matrix {
	case BT601:
		c.kr, c.kb = 0.299, 0.114
	case BT2020:
		c.kr, c.kb = 0.2627, 0.0593
	default:
		c.kr, c.kb = 0.2126, 0.0722
	}
	c.kg = 1 - c.kr - c.kb
	unit := float64(int(1) << (f.Depth - 8))
	c.cZero = 128 * unit
	if f.FullRange {
		c.yScale = float64(int(1)<<f.Depth - 1)
		c.cScale = c.yScale
	} else {
		c.yZero, c.yScale, c.cScale = 16*unit, 219*unit, 224*unit
	}
	return c
}

// fromRGB has the factors from 8-bit R,G,B to sample values, without offsets:
// row 0 luma, 1 Cb, 2 Cr.
type fromRGB [3][3]float32

func (f Format) fromRGB() (m fromRGB, yZero, cZero float32) {
	c := f.coefficients()
	y, b, r := c.yScale/255, c.cScale/255/(2*(1-c.kb)), c.cScale/255/(2*(1-c.kr))
	m = fromRGB{
		{float32(c.kr * y), float32(c.kg * y), float32(c.kb * y)},
		{float32(-c.kr * b), float32(-c.kg * b), float32((1 - c.kb) * b)},
		{float32((1 - c.kr) * r), float32(-c.kg * r), float32(-c.kb * r)},
	}
	return m, float32(c.yZero), float32(c.cZero)
}
