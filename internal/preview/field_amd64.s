#include "go_asm.h"
#include "textflag.h"
#include "rows_amd64.h"

// See rows_amd64.s.

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
