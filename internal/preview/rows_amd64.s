#include "textflag.h"
#include "rows_amd64.h"

// Eight samples are computed at a time, with the operations of the Go code in the same order
// and without fused multiplications, so that the results are the same bit for bit.

// WEIGHTS computes the Catmull-Rom weights a, b, c, d for t. It uses Y1 to Y4.
#define WEIGHTS(t, a, b, c, d) \
	VMULPS t, t, Y1; \
	VMULPS t, Y1, Y2; \
	VMULPS half<>(SB), t, Y3; \
	VMULPS half<>(SB), Y2, Y4; \
	VMULPS oneAndHalf<>(SB), Y2, Y2; \
	VSUBPS Y4, Y1, a; \
	VSUBPS Y3, a, a; \
	VADDPS Y1, Y1, c; \
	VSUBPS Y2, c, c; \
	VADDPS Y3, c, c; \
	VMULPS twoAndHalf<>(SB), Y1, b; \
	VSUBPS b, Y2, b; \
	VADDPS one<>(SB), b, b; \
	VMULPS half<>(SB), Y1, Y1; \
	VSUBPS Y1, Y4, d

// TAPS computes the weighted sum of four samples of a row at BX for each pixel into Y2. It
// uses Y0 to Y5.
#define TAPS \
	VMOVUPS (BX)(R8*4), X0; \
	VINSERTF128 $1, (BX)(R12*4), Y0, Y0; \
	VMOVUPS (BX)(R9*4), X1; \
	VINSERTF128 $1, (BX)(R13*4), Y1, Y1; \
	VMOVUPS (BX)(R10*4), X2; \
	VINSERTF128 $1, (BX)(SI*4), Y2, Y2; \
	VMOVUPS (BX)(R11*4), X3; \
	VINSERTF128 $1, (BX)(DI*4), Y3, Y3; \
	VUNPCKLPS Y1, Y0, Y4; \
	VUNPCKHPS Y1, Y0, Y5; \
	VUNPCKLPS Y3, Y2, Y0; \
	VUNPCKHPS Y3, Y2, Y1; \
	VUNPCKLPD Y0, Y4, Y2; \
	VUNPCKHPD Y0, Y4, Y3; \
	VUNPCKLPD Y1, Y5, Y0; \
	VUNPCKHPD Y1, Y5, Y4; \
	VMULPS Y8, Y2, Y2; \
	VMULPS Y9, Y3, Y3; \
	VADDPS Y3, Y2, Y2; \
	VMULPS Y10, Y0, Y0; \
	VADDPS Y0, Y2, Y2; \
	VMULPS Y11, Y4, Y4; \
	VADDPS Y4, Y2, Y2

// NEIGHBOURS sets AX to 0xff if the eight indices of Y0 follow each other and Y6 is set for
// all. Most do, where the displacement changes slowly. It uses Y1.
#define NEIGHBOURS \
	VPBROADCASTD X0, Y1; \
	VPADDD counts<>(SB), Y1, Y1; \
	VPCMPEQD Y0, Y1, Y1; \
	VPAND Y6, Y1, Y1; \
	VMOVMSKPS Y1, AX

// NEAR does the work of TAPS for such indices, the first of which is R8.
#define NEAR \
	VMULPS (BX)(R8*4), Y8, Y2; \
	VMULPS 4(BX)(R8*4), Y9, Y3; \
	VADDPS Y3, Y2, Y2; \
	VMULPS 8(BX)(R8*4), Y10, Y3; \
	VADDPS Y3, Y2, Y2; \
	VMULPS 12(BX)(R8*4), Y11, Y3; \
	VADDPS Y3, Y2, Y2

// func cubicAVX2(dst *float32, changed *bool, dx, dy *float32, n int, v *float32, w, left, top, lastX, lastY int) int
TEXT ·cubicAVX2(SB), NOSPLIT, $32-96
	XORQ CX, CX
	MOVQ w+48(FP), DX
	SHLQ $2, DX // bytes of a row
	// The steps from displacements are far too many, so left and top are less by that.
	MOVQ left+56(FP), AX
	SUBQ $(1<<20), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPADDD lanes<>(SB), Y0, Y0
	VMOVDQU Y0, positions-32(SP)

cubicLoop:
	CMPQ CX, n+32(FP)
	JGE cubicDone
	MOVQ dx+16(FP), SI
	VMOVUPS (SI)(CX*4), Y0
	MOVQ dy+24(FP), SI
	VMOVUPS (SI)(CX*4), Y1
	VANDPS absolute<>(SB), Y0, Y2
	VANDPS absolute<>(SB), Y1, Y3
	VPMAXSD Y2, Y3, Y2
	VPCMPGTD still<>(SB), Y2, Y2
	MOVQ changed+8(FP), SI
	VPMOVZXBD (SI)(CX*1), Y3
	VPXOR Y4, Y4, Y4
	VPCMPGTD Y4, Y3, Y3
	VPOR Y2, Y3, Y7 // the pixels to sample
	VPTEST Y7, Y7
	JZ cubicNext

	// Positions: u in Y4, v in Y5.
	VMULPS fineMul<>(SB), Y0, Y4
	VADDPS farHalf<>(SB), Y4, Y4
	VCVTTPS2DQ Y4, Y4
	VPADDD positions-32(SP), Y4, Y4
	VMULPS fineMul<>(SB), Y1, Y5
	VADDPS farHalf<>(SB), Y5, Y5
	VCVTTPS2DQ Y5, Y5
	MOVQ top+64(FP), AX
	SUBQ $(1<<20), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPADDD Y0, Y5, Y5

	// The upper left of the samples: px in Y2, py in Y3. Is one of them outside?
	VPSRAD $10, Y4, Y2
	VPSRAD $10, Y5, Y3
	MOVQ lastX+72(FP), AX
	DECQ AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPMINUD Y2, Y0, Y0
	VPCMPEQD Y2, Y0, Y0
	MOVQ lastY+80(FP), AX
	DECQ AX
	VMOVD AX, X1
	VPBROADCASTD X1, Y1
	VPMINUD Y3, Y1, Y1
	VPCMPEQD Y3, Y1, Y1
	VPAND Y0, Y1, Y6
	VPANDN Y7, Y6, Y0
	VPTEST Y0, Y0
	JNZ cubicDone

	MOVQ w+48(FP), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPMULLD Y3, Y0, Y0
	VPADDD Y2, Y0, Y0
	NEIGHBOURS

	VPAND fineMask<>(SB), Y4, Y4
	VCVTDQ2PS Y4, Y4
	VMULPS fineInv<>(SB), Y4, Y6
	VPAND fineMask<>(SB), Y5, Y5
	VCVTDQ2PS Y5, Y5
	VMULPS fineInv<>(SB), Y5, Y5
	WEIGHTS(Y6, Y8, Y9, Y10, Y11)
	WEIGHTS(Y5, Y12, Y13, Y14, Y15)

	MOVQ v+40(FP), BX
	CMPL AX, $0xff
	JE cubicNear
	VPAND Y7, Y0, Y0
	INDICES
	TAPS
	VMULPS Y12, Y2, Y6
	ADDQ DX, BX
	TAPS
	VMULPS Y13, Y2, Y2
	VADDPS Y2, Y6, Y6
	ADDQ DX, BX
	TAPS
	VMULPS Y14, Y2, Y2
	VADDPS Y2, Y6, Y6
	ADDQ DX, BX
	TAPS
	VMULPS Y15, Y2, Y2
	VADDPS Y2, Y6, Y6
	JMP cubicPut

cubicNear:
	VMOVD X0, R8
	NEAR
	VMULPS Y12, Y2, Y6
	ADDQ DX, BX
	NEAR
	VMULPS Y13, Y2, Y2
	VADDPS Y2, Y6, Y6
	ADDQ DX, BX
	NEAR
	VMULPS Y14, Y2, Y2
	VADDPS Y2, Y6, Y6
	ADDQ DX, BX
	NEAR
	VMULPS Y15, Y2, Y2
	VADDPS Y2, Y6, Y6

cubicPut:
	MOVQ dst+0(FP), SI
	VMOVUPS Y6, (SI)(CX*4)
	VEXTRACTI128 $1, Y7, X1
	VPACKSSDW X1, X7, X1
	VPACKSSWB X1, X1, X1
	VPAND trues<>(SB), X1, X1
	MOVQ changed+8(FP), SI
	VMOVQ X1, (SI)(CX*1)

cubicNext:
	VMOVDQU positions-32(SP), Y0
	VPADDD step8<>(SB), Y0, Y0
	VMOVDQU Y0, positions-32(SP)
	ADDQ $8, CX
	JMP cubicLoop

cubicDone:
	MOVQ CX, ret+88(FP)
	VZEROUPPER
	RET

// BILINEAR computes the mean with the weights Y8 to Y11 of two rows from BX on into Y4. It
// uses Y0 to Y6.
#define BILINEAR \
	PAIRS(Y4, Y5); \
	VMULPS Y8, Y4, Y4; \
	VMULPS Y9, Y5, Y5; \
	VADDPS Y5, Y4, Y4; \
	ADDQ DX, BX; \
	PAIRS(Y5, Y6); \
	VMULPS Y10, Y5, Y5; \
	VADDPS Y5, Y4, Y4; \
	VMULPS Y11, Y6, Y6; \
	VADDPS Y6, Y4, Y4

// BILINEARNEAR does the work of BILINEAR for neighbours, the first of which is R8.
#define BILINEARNEAR \
	VMULPS (BX)(R8*4), Y8, Y4; \
	VMULPS 4(BX)(R8*4), Y9, Y5; \
	VADDPS Y5, Y4, Y4; \
	ADDQ DX, BX; \
	VMULPS (BX)(R8*4), Y10, Y5; \
	VADDPS Y5, Y4, Y4; \
	VMULPS 4(BX)(R8*4), Y11, Y5; \
	VADDPS Y5, Y4, Y4

// func linearAVX2(dstP, dstQ *float32, changed *bool, dx, dy *float32, n int, p, q *float32, w, left, top, lastX, lastY, shiftX int, scaleX, scaleY float32) int
TEXT ·linearAVX2(SB), NOSPLIT, $32-128
	XORQ CX, CX
	MOVQ w+64(FP), DX
	SHLQ $2, DX
	MOVQ left+72(FP), AX
	SUBQ $(1<<20), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPADDD lanes<>(SB), Y0, Y0
	VMOVDQU Y0, positions-32(SP)
	VBROADCASTSS scaleX+112(FP), Y13
	VMULPS fineMul<>(SB), Y13, Y13
	VBROADCASTSS scaleY+116(FP), Y14
	VMULPS fineMul<>(SB), Y14, Y14
	MOVQ top+80(FP), AX
	SUBQ $(1<<20), AX
	VMOVD AX, X15
	VPBROADCASTD X15, Y15

linearLoop:
	CMPQ CX, n+40(FP)
	JGE linearDone
	MOVQ changed+16(FP), SI
	MOVQ (SI)(CX*1), AX
	TESTQ AX, AX
	JZ linearNext
	VPMOVZXBD (SI)(CX*1), Y3
	VPXOR Y4, Y4, Y4
	VPCMPGTD Y4, Y3, Y7
	MOVQ dx+24(FP), SI
	MOVQ dy+32(FP), DI
	CMPQ shiftX+104(FP), $0
	JNE linearHalf
	VMOVUPS (SI)(CX*4), Y0
	VMOVUPS (DI)(CX*4), Y1
	JMP linearAt

linearHalf: // every second displacement
	VMOVUPS (SI)(CX*8), Y0
	VMOVUPS 32(SI)(CX*8), Y2
	VSHUFPS $0x88, Y2, Y0, Y0
	VPERMPD $0xd8, Y0, Y0
	VMOVUPS (DI)(CX*8), Y1
	VMOVUPS 32(DI)(CX*8), Y2
	VSHUFPS $0x88, Y2, Y1, Y1
	VPERMPD $0xd8, Y1, Y1

linearAt:
	VMULPS Y13, Y0, Y4
	VADDPS farHalf<>(SB), Y4, Y4
	VCVTTPS2DQ Y4, Y4
	VPADDD positions-32(SP), Y4, Y4
	VMULPS Y14, Y1, Y5
	VADDPS farHalf<>(SB), Y5, Y5
	VCVTTPS2DQ Y5, Y5
	VPADDD Y15, Y5, Y5

	VPSRAD $10, Y4, Y2
	VPSRAD $10, Y5, Y3
	MOVQ lastX+88(FP), AX
	DECQ AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPMINUD Y2, Y0, Y0
	VPCMPEQD Y2, Y0, Y0
	MOVQ lastY+96(FP), AX
	DECQ AX
	VMOVD AX, X1
	VPBROADCASTD X1, Y1
	VPMINUD Y3, Y1, Y1
	VPCMPEQD Y3, Y1, Y1
	VPAND Y0, Y1, Y6
	VPANDN Y7, Y6, Y0
	VPTEST Y0, Y0
	JNZ linearDone

	MOVQ w+64(FP), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	VPMULLD Y3, Y0, Y0
	VPADDD Y2, Y0, Y0
	NEIGHBOURS

	VPAND fineMask<>(SB), Y4, Y4
	VCVTDQ2PS Y4, Y4
	VMULPS fineInv<>(SB), Y4, Y4
	VPAND fineMask<>(SB), Y5, Y5
	VCVTDQ2PS Y5, Y5
	VMULPS fineInv<>(SB), Y5, Y5
	VMULPS Y4, Y5, Y11    // d
	VSUBPS Y11, Y4, Y9    // b
	VSUBPS Y11, Y5, Y10   // c
	VMOVUPS one<>(SB), Y8
	VSUBPS Y4, Y8, Y8
	VSUBPS Y10, Y8, Y8    // a

	MOVQ p+48(FP), BX
	CMPL AX, $0xff
	JE linearNear
	VPAND Y7, Y0, Y0
	INDICES
	BILINEAR
	MOVQ dstP+0(FP), AX
	VMOVUPS Y4, (AX)(CX*4)
	MOVQ q+56(FP), BX
	BILINEAR
	MOVQ dstQ+8(FP), AX
	VMOVUPS Y4, (AX)(CX*4)
	JMP linearNext

linearNear:
	VMOVD X0, R8
	BILINEARNEAR
	MOVQ dstP+0(FP), AX
	VMOVUPS Y4, (AX)(CX*4)
	MOVQ q+56(FP), BX
	BILINEARNEAR
	MOVQ dstQ+8(FP), AX
	VMOVUPS Y4, (AX)(CX*4)

linearNext:
	VMOVDQU positions-32(SP), Y0
	VPADDD step8<>(SB), Y0, Y0
	VMOVDQU Y0, positions-32(SP)
	ADDQ $8, CX
	JMP linearLoop

linearDone:
	MOVQ CX, ret+120(FP)
	VZEROUPPER
	RET

// func widen8AVX2(dst *float32, src *byte, n int)
TEXT ·widen8AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX

widen8Loop:
	CMPQ AX, CX
	JGE widen8Done
	VPMOVZXBD (SI)(AX*1), Y0
	VCVTDQ2PS Y0, Y0
	VMOVUPS Y0, (DI)(AX*4)
	ADDQ $8, AX
	JMP widen8Loop

widen8Done:
	VZEROUPPER
	RET

// func widen16AVX2(dst *float32, src *byte, n int, scale float32)
TEXT ·widen16AVX2(SB), NOSPLIT, $0-28
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS scale+24(FP), Y1
	XORQ AX, AX

widen16Loop:
	CMPQ AX, CX
	JGE widen16Done
	VPMOVZXWD (SI)(AX*2), Y0
	VCVTDQ2PS Y0, Y0
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)(AX*4)
	ADDQ $8, AX
	JMP widen16Loop

widen16Done:
	VZEROUPPER
	RET

// func put8AVX2(row *byte, v *float32, changed *bool, n int)
TEXT ·put8AVX2(SB), NOSPLIT, $0-32
	MOVQ row+0(FP), DI
	MOVQ v+8(FP), SI
	MOVQ changed+16(FP), DX
	MOVQ n+24(FP), CX
	VPXOR Y7, Y7, Y7
	XORQ AX, AX

put8Loop:
	CMPQ AX, CX
	JGE put8Done
	MOVQ (DX)(AX*1), BX
	TESTQ BX, BX
	JZ put8Next
	VMOVUPS (SI)(AX*4), Y0
	VADDPS half<>(SB), Y0, Y0
	VCVTTPS2DQ Y0, Y0
	VPMAXSD Y7, Y0, Y0
	VPMINSD top8<>(SB), Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPACKUSDW X1, X0, X0
	VPACKUSWB X0, X0, X0
	VMOVQ BX, X1
	VPCMPEQB X7, X1, X1 // what stays
	VMOVQ (DI)(AX*1), X2
	VPBLENDVB X1, X2, X0, X0
	VMOVQ X0, (DI)(AX*1)

put8Next:
	ADDQ $8, AX
	JMP put8Loop

put8Done:
	VZEROUPPER
	RET

// func put16AVX2(row *byte, v *float32, changed *bool, n int, scale float32, top int32)
TEXT ·put16AVX2(SB), NOSPLIT, $0-40
	MOVQ row+0(FP), DI
	MOVQ v+8(FP), SI
	MOVQ changed+16(FP), DX
	MOVQ n+24(FP), CX
	VBROADCASTSS scale+32(FP), Y5
	MOVL top+36(FP), AX
	VMOVD AX, X6
	VPBROADCASTD X6, Y6
	VPXOR Y7, Y7, Y7
	XORQ AX, AX

put16Loop:
	CMPQ AX, CX
	JGE put16Done
	MOVQ (DX)(AX*1), BX
	TESTQ BX, BX
	JZ put16Next
	VMOVUPS (SI)(AX*4), Y0
	VMULPS Y5, Y0, Y0
	VADDPS half<>(SB), Y0, Y0
	VCVTTPS2DQ Y0, Y0
	VPMAXSD Y7, Y0, Y0
	VPMINSD Y6, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPACKUSDW X1, X0, X0
	VMOVQ BX, X1
	VPCMPEQB X7, X1, X1
	VPMOVSXBW X1, X1
	VMOVDQU (DI)(AX*2), X2
	VPBLENDVB X1, X2, X0, X0
	VMOVDQU X0, (DI)(AX*2)

put16Next:
	ADDQ $8, AX
	JMP put16Loop

put16Done:
	VZEROUPPER
	RET
