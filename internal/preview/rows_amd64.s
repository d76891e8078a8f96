#include "go_asm.h"
#include "textflag.h"

// Eight samples are computed at a time, with the operations of the Go code in the same order
// and without fused multiplications, so that the results are the same bit for bit.

#define EIGHT(name, bits) \
	DATA name<>+0(SB)/4, $bits \
	DATA name<>+4(SB)/4, $bits \
	DATA name<>+8(SB)/4, $bits \
	DATA name<>+12(SB)/4, $bits \
	DATA name<>+16(SB)/4, $bits \
	DATA name<>+20(SB)/4, $bits \
	DATA name<>+24(SB)/4, $bits \
	DATA name<>+28(SB)/4, $bits \
	GLOBL name<>(SB), RODATA|NOPTR, $32

EIGHT(absolute, 0x7fffffff)
EIGHT(still, 0x3c23d70a)     // stillPixel
EIGHT(fineMul, 0x44800000)   // fine
EIGHT(farHalf, 0x49800004)   // far + 0.5
EIGHT(fineInv, 0x3a800000)   // 1/fine
EIGHT(fineMask, 0x000003ff)  // fine - 1
EIGHT(step8, 0x00002000)     // 8 samples
EIGHT(half, 0x3f000000)      // 0.5
EIGHT(one, 0x3f800000)       // 1
EIGHT(oneAndHalf, 0x3fc00000) // 1.5
EIGHT(twoAndHalf, 0x40200000) // 2.5
EIGHT(trues, 0x01010101)
EIGHT(top8, 0x000000ff)

DATA lanes<>+0(SB)/4, $0x0000
DATA lanes<>+4(SB)/4, $0x0400
DATA lanes<>+8(SB)/4, $0x0800
DATA lanes<>+12(SB)/4, $0x0c00
DATA lanes<>+16(SB)/4, $0x1000
DATA lanes<>+20(SB)/4, $0x1400
DATA lanes<>+24(SB)/4, $0x1800
DATA lanes<>+28(SB)/4, $0x1c00
GLOBL lanes<>(SB), RODATA|NOPTR, $32

DATA counts<>+0(SB)/4, $0
DATA counts<>+4(SB)/4, $1
DATA counts<>+8(SB)/4, $2
DATA counts<>+12(SB)/4, $3
DATA counts<>+16(SB)/4, $4
DATA counts<>+20(SB)/4, $5
DATA counts<>+24(SB)/4, $6
DATA counts<>+28(SB)/4, $7
GLOBL counts<>(SB), RODATA|NOPTR, $32

// INDICES moves the eight indices of Y0 to general registers.
#define INDICES \
	VMOVQ X0, R8; \
	VPEXTRQ $1, X0, R10; \
	VEXTRACTI128 $1, Y0, X0; \
	VMOVQ X0, R12; \
	VPEXTRQ $1, X0, SI; \
	MOVQ R8, R9; \
	MOVL R8, R8; \
	SHRQ $32, R9; \
	MOVQ R10, R11; \
	MOVL R10, R10; \
	SHRQ $32, R11; \
	MOVQ R12, R13; \
	MOVL R12, R12; \
	SHRQ $32, R13; \
	MOVQ SI, DI; \
	MOVL SI, SI; \
	SHRQ $32, DI

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

// PAIRS loads two samples at BX for each pixel: the left ones into a, the right ones into b.
// It uses Y0 to Y3.
#define PAIRS(a, b) \
	VMOVSD (BX)(R8*4), X0; \
	VMOVHPS (BX)(R9*4), X0, X0; \
	VMOVSD (BX)(R12*4), X1; \
	VMOVHPS (BX)(R13*4), X1, X1; \
	VINSERTF128 $1, X1, Y0, Y0; \
	VMOVSD (BX)(R10*4), X2; \
	VMOVHPS (BX)(R11*4), X2, X2; \
	VMOVSD (BX)(SI*4), X3; \
	VMOVHPS (BX)(DI*4), X3, X3; \
	VINSERTF128 $1, X3, Y2, Y2; \
	VSHUFPS $0x88, Y2, Y0, a; \
	VSHUFPS $0xdd, Y2, Y0, b

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

EIGHT(templateW, 0x000000d2)  // maskW
EIGHT(placeMask, 0x000fffff)  // of the 20 bits after the point of a place in the template
EIGHT(placeUnit, 0x35800000)  // 1/2^20
EIGHT(tenth, 0x3dcccccd)      // 0.1

DATA fours<>+0(SB)/8, $4.0
DATA fours<>+8(SB)/8, $4.0
DATA fours<>+16(SB)/8, $4.0
DATA fours<>+24(SB)/8, $4.0
GLOBL fours<>(SB), RODATA|NOPTR, $32

// ROOT4 computes the fourth root of the four numbers of x into x, with y as its wide form.
#define ROOT4(x, y) \
	VCVTPS2PD x, y; \
	VSQRTPD y, y; \
	VSQRTPD y, y; \
	VCVTPD2PSY y, x

// func fadeAVX2(dx, dy *float32, n, u, v, du, dv int, alpha, floor *float32, scale float32)
TEXT ·fadeAVX2(SB), NOSPLIT, $0-76
	XORQ CX, CX
	MOVL $(210*4), DX // bytes of a row of the mask
	VMOVDQU counts<>(SB), Y0
	MOVQ du+40(FP), AX
	VMOVD AX, X1
	VPBROADCASTD X1, Y1
	VPSLLD $3, Y1, Y13
	VPMULLD Y0, Y1, Y1
	MOVQ u+24(FP), AX
	VMOVD AX, X2
	VPBROADCASTD X2, Y2
	VPADDD Y1, Y2, Y14
	MOVQ dv+48(FP), AX
	VMOVD AX, X1
	VPBROADCASTD X1, Y1
	VPSLLD $3, Y1, Y12
	VPMULLD Y0, Y1, Y1
	MOVQ v+32(FP), AX
	VMOVD AX, X2
	VPBROADCASTD X2, Y2
	VPADDD Y1, Y2, Y15

fadeLoop:
	CMPQ CX, n+16(FP)
	JGE fadeDone
	VPSRAD $20, Y14, Y2
	VPSRAD $20, Y15, Y3
	VPMULLD templateW<>(SB), Y3, Y3
	VPADDD Y2, Y3, Y0
	INDICES
	MOVQ floor+64(FP), AX
	VPCMPEQD Y1, Y1, Y1
	VGATHERDPS Y1, (AX)(Y2*4), Y11
	MOVQ alpha+56(FP), BX
	PAIRS(Y4, Y5)
	ADDQ DX, BX
	PAIRS(Y6, Y7)

	VPAND placeMask<>(SB), Y14, Y8
	VCVTDQ2PS Y8, Y8
	VMULPS placeUnit<>(SB), Y8, Y8
	VPAND placeMask<>(SB), Y15, Y9
	VCVTDQ2PS Y9, Y9
	VMULPS placeUnit<>(SB), Y9, Y9
	VSUBPS Y4, Y5, Y5
	VMULPS Y8, Y5, Y5
	VADDPS Y5, Y4, Y4
	VSUBPS Y6, Y7, Y7
	VMULPS Y8, Y7, Y7
	VADDPS Y7, Y6, Y6
	VSUBPS Y4, Y6, Y6
	VMULPS Y9, Y6, Y6
	VADDPS Y6, Y4, Y10 // alpha

	VCVTDQ2PS Y15, Y0
	VMULPS placeUnit<>(SB), Y0, Y0
	VSUBPS Y0, Y11, Y11
	VMAXPS tenth<>(SB), Y11, Y11
	VBROADCASTSS scale+72(FP), Y0
	VMULPS Y11, Y0, Y11 // most

	MOVQ dy+8(FP), SI
	VMOVUPS (SI)(CX*4), Y1
	VMULPS Y10, Y1, Y2
	VXORPS Y0, Y0, Y0
	VCMPPS $30, Y0, Y1, Y3
	VCMPPS $30, Y0, Y10, Y4
	VANDPS Y4, Y3, Y3
	VMULPS half<>(SB), Y11, Y4
	VCMPPS $30, Y4, Y2, Y4
	VANDPS Y4, Y3, Y3
	VPTEST Y3, Y3
	JZ fadeApply
	VDIVPS Y11, Y2, Y4
	VMULPS Y4, Y4, Y5
	VMULPS Y4, Y5, Y5
	VMULPS Y5, Y4, Y4
	VADDPS one<>(SB), Y4, Y4
	VEXTRACTF128 $1, Y4, X5
	ROOT4(X4, Y4)
	ROOT4(X5, Y5)
	VINSERTF128 $1, X5, Y4, Y4
	VDIVPS Y4, Y10, Y4
	VBLENDVPS Y3, Y4, Y10, Y10

fadeApply:
	VMULPS Y10, Y1, Y1
	VMOVUPS Y1, (SI)(CX*4)
	MOVQ dx+0(FP), SI
	VMULPS (SI)(CX*4), Y10, Y10
	VMOVUPS Y10, (SI)(CX*4)
	VPADDD Y13, Y14, Y14
	VPADDD Y12, Y15, Y15
	ADDQ $8, CX
	JMP fadeLoop

fadeDone:
	VZEROUPPER
	RET

DATA margin<>+0(SB)/8, $1e-6 // -outside
GLOBL margin<>(SB), RODATA|NOPTR, $8
DATA whole<>+0(SB)/8, $1.000001 // 1 - outside
GLOBL whole<>(SB), RODATA|NOPTR, $8

DATA infinite<>+0(SB)/8, $0x7ff0000000000000
DATA infinite<>+8(SB)/8, $0x7ff0000000000000
DATA infinite<>+16(SB)/8, $0x7ff0000000000000
DATA infinite<>+24(SB)/8, $0x7ff0000000000000
GLOBL infinite<>(SB), RODATA|NOPTR, $32

DATA infinitelyLow<>+0(SB)/8, $0xfff0000000000000
DATA infinitelyLow<>+8(SB)/8, $0xfff0000000000000
DATA infinitelyLow<>+16(SB)/8, $0xfff0000000000000
DATA infinitelyLow<>+24(SB)/8, $0xfff0000000000000
GLOBL infinitelyLow<>(SB), RODATA|NOPTR, $32

// func fillAVX2(job *fillJob)
TEXT ·fillAVX2(SB), NOSPLIT, $0-8
	MOVQ job+0(FP), AX
	MOVQ fillJob_spans(AX), BX
	MOVQ fillJob_dx(AX), DI
	MOVQ fillJob_dy(AX), SI
	MOVQ (fillJob_ramps+ramps_rows)(AX), CX
	MOVQ (fillJob_ramps+ramps_y)(AX), DX
	MOVQ fillJob_stride(AX), R12
	SHLQ $2, R12 // bytes
	MOVQ (fillJob_ramps+ramps_x0)(AX), R13
	VMOVUPD fillJob_stepX(AX), Y8
	VMOVUPD fillJob_stepY(AX), Y10
	VBROADCASTSD (fillJob_ramps+ramps_step+0)(AX), Y9
	VMULPD fours<>(SB), Y9, Y9
	VBROADCASTSD (fillJob_ramps+ramps_step+8)(AX), Y11
	VMULPD fours<>(SB), Y11, Y11
	VMOVUPD fillJob_negated(AX), Y12
	VMOVUPD fillJob_noLo(AX), Y13
	VMOVUPD fillJob_noHi(AX), Y14
	VXORPS X15, X15, X15

fillRow:
	// The columns of the span, from x0 on: lo in X6, hi in X7.
	MOVQ (BX), R8
	SUBQ R13, R8
	XORQ R9, R9
	CMPQ R8, R9
	CMOVQLT R9, R8
	MOVQ 8(BX), R10
	DECQ R10
	MOVQ (fillJob_ramps+ramps_x1)(AX), R9
	CMPQ R10, R9
	CMOVQGT R9, R10
	SUBQ R13, R10
	VCVTSI2SDQ R8, X15, X6
	VCVTSI2SDQ R10, X15, X7

	// b1 in X1, b2 in X2 at the column x0.
	VCVTSI2SDQ R13, X15, X3
	VSUBSD (fillJob_ramps+ramps_corner+0)(AX), X3, X3
	VCVTSI2SDQ DX, X15, X0
	VSUBSD (fillJob_ramps+ramps_corner+8)(AX), X0, X0
	VMULSD (fillJob_ramps+ramps_b1+0)(AX), X3, X1
	VMULSD (fillJob_ramps+ramps_b1+8)(AX), X0, X4
	VADDSD X4, X1, X1
	VMULSD (fillJob_ramps+ramps_b2+0)(AX), X3, X2
	VMULSD (fillJob_ramps+ramps_b2+8)(AX), X0, X4
	VADDSD X4, X2, X2

	// The bounds of the three barycentric coordinates, side by side.
	VADDSD margin<>(SB), X1, X3
	VADDSD margin<>(SB), X2, X4
	VMOVSD whole<>(SB), X5
	VSUBSD X1, X5, X5
	VSUBSD X2, X5, X5
	VUNPCKLPD X4, X3, X3
	VINSERTF128 $1, X5, Y3, Y3
	VMULPD Y12, Y3, Y3
	VADDPD Y13, Y3, Y4
	VMAXPD infinitelyLow<>(SB), Y4, Y4 // what is not a number is no bound
	VADDPD Y14, Y3, Y5
	VMINPD infinite<>(SB), Y5, Y5
	VEXTRACTF128 $1, Y4, X0
	VMAXPD X0, X4, X4
	VPERMILPD $1, X4, X0
	VMAXSD X0, X4, X4
	VMAXSD X4, X6, X6
	VEXTRACTF128 $1, Y5, X0
	VMINPD X0, X5, X5
	VPERMILPD $1, X5, X0
	VMINSD X0, X5, X5
	VMINSD X5, X7, X7
	VUCOMISD X7, X6
	JHI fillNext
	VROUNDSD $10, X6, X6, X6 // up
	VCVTTSD2SIQ X6, R8
	VCVTTSD2SIQ X7, R10
	SUBQ R8, R10
	JLT fillNext
	INCQ R10

	// The displacement at the first column: both parts in X1.
	VMULSD (fillJob_ramps+ramps_b1+0)(AX), X6, X0
	VADDSD X0, X1, X1
	VMULSD (fillJob_ramps+ramps_b2+0)(AX), X6, X0
	VADDSD X0, X2, X2
	VMOVDDUP X1, X1
	VMOVDDUP X2, X2
	VMULPD (fillJob_ramps+ramps_e1)(AX), X1, X1
	VADDPD (fillJob_ramps+ramps_d)(AX), X1, X1
	VMULPD (fillJob_ramps+ramps_e2)(AX), X2, X2
	VADDPD X2, X1, X1
	VBROADCASTSD X1, Y0
	VPERMILPD $1, X1, X1
	VBROADCASTSD X1, Y2
	VADDPD Y8, Y0, Y3
	VBLENDPD $1, Y0, Y3, Y0
	VADDPD Y10, Y2, Y3
	VBLENDPD $1, Y2, Y3, Y2

	LEAQ (DI)(R8*4), R9
	LEAQ (SI)(R8*4), R11

fillFour:
	VCVTPD2PSY Y0, X4
	VCVTPD2PSY Y2, X5
	SUBQ $4, R10
	JLT fillTail
	VMOVUPS X4, (R9)
	VMOVUPS X5, (R11)
	VADDPD Y9, Y0, Y0
	VADDPD Y11, Y2, Y2
	ADDQ $16, R9
	ADDQ $16, R11
	JMP fillFour

fillTail:
	ADDQ $4, R10
	JEQ fillNext
	VMOVSS X4, (R9)
	VMOVSS X5, (R11)
	CMPQ R10, $2
	JLT fillNext
	VEXTRACTPS $1, X4, 4(R9)
	VEXTRACTPS $1, X5, 4(R11)
	JEQ fillNext
	VEXTRACTPS $2, X4, 8(R9)
	VEXTRACTPS $2, X5, 8(R11)

fillNext:
	ADDQ R12, DI
	ADDQ R12, SI
	ADDQ $16, BX
	INCQ DX
	DECQ CX
	JNZ fillRow
	VZEROUPPER
	RET

// func movesAVX2(changed *bool, dx, dy *float32, n, shift int)
TEXT ·movesAVX2(SB), NOSPLIT, $0-40
	MOVQ changed+0(FP), DI
	MOVQ dx+8(FP), SI
	MOVQ dy+16(FP), DX
	MOVQ n+24(FP), CX
	VMOVUPS absolute<>(SB), Y5
	VMOVUPS still<>(SB), Y6
	VMOVDQU trues<>(SB), X7
	MOVQ shift+32(FP), BX
	XORQ AX, AX

movesLoop:
	CMPQ AX, CX
	JGE movesDone
	CMPQ BX, $0
	JNE movesHalf
	VANDPS (SI)(AX*4), Y5, Y0
	VANDPS (DX)(AX*4), Y5, Y1
	VPMAXSD Y0, Y1, Y0
	JMP movesPut

movesHalf: // every second displacement
	VANDPS (SI)(AX*8), Y5, Y0
	VANDPS (DX)(AX*8), Y5, Y1
	VPMAXSD Y0, Y1, Y0
	VANDPS 32(SI)(AX*8), Y5, Y2
	VANDPS 32(DX)(AX*8), Y5, Y3
	VPMAXSD Y2, Y3, Y2
	VSHUFPS $0x88, Y2, Y0, Y0
	VPERMPD $0xd8, Y0, Y0

movesPut:
	VPCMPGTD Y6, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPACKSSDW X1, X0, X0
	VPACKSSWB X0, X0, X0
	VPAND X7, X0, X0
	VMOVQ (DI)(AX*1), X1
	VPOR X1, X0, X0
	VMOVQ X0, (DI)(AX*1)
	ADDQ $8, AX
	JMP movesLoop

movesDone:
	VZEROUPPER
	RET

// func meanAVX2(v, w *float32, n int)
TEXT ·meanAVX2(SB), NOSPLIT, $0-24
	MOVQ v+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ n+16(FP), CX
	VMOVUPS half<>(SB), Y1
	XORQ AX, AX

meanLoop:
	CMPQ AX, CX
	JGE meanDone
	VMOVUPS (DI)(AX*4), Y0
	VADDPS (SI)(AX*4), Y0, Y0
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)(AX*4)
	ADDQ $8, AX
	JMP meanLoop

meanDone:
	VZEROUPPER
	RET
