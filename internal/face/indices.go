package face

// Index lists into Face.Points (MediaPipe's mesh). "Left" and "Right" mean sides
// of the image, as everywhere in this package. Neighbours in a contour are edges
// of the mesh.
var (
	// LipsInner is the closed inner lip contour, from 78 along the lower lip to
	// 308 and back; mouth opening is the distance 13-14.
	LipsInner = []int{
		78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
	}
	// FaceOval is the closed outline of the face, clockwise from the top of the
	// forehead.
	FaceOval = []int{
		10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
		148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
	}
	// EyeLeft is the closed contour of the eye on the image-left side.
	EyeLeft = []int{
		33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
	}
	// EyeRight is the closed contour of the eye on the image-right side.
	EyeRight = []int{
		263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
	}
	// IrisLeft is centre, right, top, left and bottom of the image-left iris.
	IrisLeft = []int{
		468, 469, 470, 471, 472,
	}
	// IrisRight is the same of the image-right iris.
	IrisRight = []int{
		473, 474, 475, 476, 477,
	}
)

// The points whose means are the three alignment points of LatentSync
// (models/README, section 4): brow centres and nose.
var (
	alignP0 = []int{71, 63, 105, 66, 107}
	alignP1 = []int{336, 296, 334, 293, 301}
	alignP2 = []int{168, 197, 5, 4, 75, 97, 2, 326, 305}
)

// Where the refined points of the attention network go, in its tensors' order.
var (
	attentionLips = []int{
		61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78,
		95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415, 76, 77,
		90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408, 62, 96, 89,
		179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407,
	}
	attentionLeftEye = []int{
		33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173, 130, 25, 110, 24,
		23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190, 226, 31, 228, 229, 230, 231, 232, 233, 244,
		113, 225, 224, 223, 222, 221, 189, 35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121,
		128, 245, 156, 70, 63, 105, 66, 107, 55, 193,
	}
	attentionRightEye = []int{
		263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398, 359, 255, 339,
		254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414, 446, 261, 448, 449, 450, 451,
		452, 453, 464, 342, 445, 444, 443, 442, 441, 413, 265, 353, 276, 283, 282, 295, 372, 340, 346,
		347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417,
	}
)
