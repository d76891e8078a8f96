package face

// Looks returns the squares in which the mesh looks at a frame to measure a face, made from
// the square of the tracker. On closed lips a single look finds sometimes nothing and sometimes
// a gap of two pixels, depending on how the pixels of the crop fall on them (on a closed mouth
// that moves through noise: up to a seventh of the speaking range). The mean of several looks
// at the same frame is steadier and, unlike a mean over time, neither blunts nor delays the
// movement of the lips.
func Looks(at ROI) []ROI {
	// Shifts in parts of the side, scale, turn in radians.
	looks := []ROI{
		{Size: 1}, {CX: 0.02, CY: 0.013, Size: 0.95, Rotation: 0.03}, {CX: -0.013, CY: 0.02, Size: 1.05, Rotation: 0.015},
		{CX: -0.02, CY: -0.013, Size: 0.975, Rotation: -0.03}, {CX: 0.013, CY: -0.02, Size: 1.025, Rotation: -0.015},
	}
	for i, l := range looks {
		looks[i] = ROI{CX: at.CX + l.CX*at.Size, CY: at.CY + l.CY*at.Size, Size: l.Size * at.Size, Rotation: at.Rotation + l.Rotation}
	}
	return looks
}
