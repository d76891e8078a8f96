#include "go_asm.h"
#include "textflag.h"

// Eight pixels are computed at a time. As in the Go code, all is done with integers that do
// not overflow; those of 64 bits in two halves, the even pixels and the odd ones.

#define FOUR(name, a) \
	DATA name<>+0(SB)/4, $a \
	DATA name<>+4(SB)/4, $a \
	DATA name<>+8(SB)/4, $a \
	DATA name<>+12(SB)/4, $a \
	DATA name<>+16(SB)/4, $a \
	DATA name<>+20(SB)/4, $a \
	DATA name<>+24(SB)/4, $a \
	DATA name<>+28(SB)/4, $a \
	GLOBL name<>(SB), RODATA|NOPTR, $32

FOUR(weightAll, 2048) // weightOne
FOUR(byteMax, 255)

// packed moves the lower three bytes of four pixels together.
DATA packed<>+0(SB)/8, $0x0908060504020100
DATA packed<>+8(SB)/8, $0xffffffff0e0d0c0a
DATA packed<>+16(SB)/8, $0x0908060504020100
DATA packed<>+24(SB)/8, $0xffffffff0e0d0c0a
GLOBL packed<>(SB), RODATA|NOPTR, $32

// ALL fills a register with a number at AX.
#define ALL(offset, x, y) \
	VMOVD offset(AX), x; \
	VPBROADCASTD x, y

// PLACES turns positions, x in Y0 and Y1, y in Y2 and Y3, into the weights of the columns,
// Y8, and of the lower row, Y9, and moves the indices of the upper left samples to general
// registers. The row has w samples.
#define PLACES(w) \
	VSHUFPS $0xdd, Y1, Y0, Y4; \
	VSHUFPS $0x88, Y1, Y0, Y8; \
	VSHUFPS $0xdd, Y3, Y2, Y5; \
	VSHUFPS $0x88, Y3, Y2, Y9; \
	VPSRLD $21, Y8, Y8; \
	VPSRLD $21, Y9, Y9; \
	ALL(w, X0, Y0); \
	VPMULLD Y0, Y5, Y5; \
	VPADDD Y4, Y5, Y0; \
	VMOVDQU weightAll<>(SB), Y1; \
	VPSUBD Y8, Y1, Y1; \
	VPSLLD $16, Y8, Y8; \
	VPOR Y1, Y8, Y8; \
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

// ROW8 and ROW16 compute the means of two neighbours in the row at BX into y.
#define ROW8(x, y) \
	VPXOR x, x, x; \
	VPINSRW $0, (BX)(R8*1), x, x; \
	VPINSRW $1, (BX)(R9*1), x, x; \
	VPINSRW $2, (BX)(R10*1), x, x; \
	VPINSRW $3, (BX)(R11*1), x, x; \
	VPINSRW $4, (BX)(R12*1), x, x; \
	VPINSRW $5, (BX)(R13*1), x, x; \
	VPINSRW $6, (BX)(SI*1), x, x; \
	VPINSRW $7, (BX)(DI*1), x, x; \
	VPMOVZXBW x, y; \
	VPMADDWD Y8, y, y

#define ROW16(x, y) \
	VMOVD (BX)(R8*2), x; \
	VPINSRD $1, (BX)(R9*2), x, x; \
	VPINSRD $2, (BX)(R10*2), x, x; \
	VPINSRD $3, (BX)(R11*2), x, x; \
	VMOVD (BX)(R12*2), X4; \
	VPINSRD $1, (BX)(R13*2), X4, X4; \
	VPINSRD $2, (BX)(SI*2), X4, X4; \
	VPINSRD $3, (BX)(DI*2), X4, X4; \
	VINSERTI128 $1, X4, y, y; \
	VPMADDWD Y8, y, y

// TAPS computes the means of the four samples in a plane into y, with two rows of DX bytes.
#define TAPS(ROW, plane, y) \
	MOVQ plane(AX), BX; \
	ROW(X0, Y0); \
	ADDQ DX, BX; \
	ROW(X1, Y1); \
	VPSUBD Y0, Y1, Y1; \
	VPMULLD Y9, Y1, Y1; \
	VPSLLD $11, Y0, Y0; \
	VPADDD Y1, Y0, y

// LEVELS turns sums of 64 bits, even in a, odd in b, into levels of 8 bits in a.
#define LEVELS(a, b) \
	VPSRLQ $32, a, a; \
	VPBLENDD $0xaa, b, a, a; \
	VPSRAD $4, a, a; \
	VPMAXSD Y15, a, a; \
	VPMINSD byteMax<>(SB), a, a

// ADDALL adds a number at AX to the sums a and b; it uses Y7.
#define ADDALL(offset, a, b) \
	VPBROADCASTQ offset(AX), Y7; \
	VPADDQ Y7, a, a; \
	VPADDQ Y7, b, b

// PRODUCTS multiplies the even taps p and the odd ones q with a number at AX; it uses Y7.
#define PRODUCTS(offset, p, q, a, b) \
	VPBROADCASTQ offset(AX), Y7; \
	VPMULUDQ Y7, p, a; \
	VPMULUDQ Y7, q, b

#define WARP(ROW, bytesShift) \
	MOVQ job+0(FP), AX; \
	MOVQ warpJob_n(AX), CX; \
	VPXOR X15, X15, X15; \
loop: \
	VMOVDQU (warpJob_x+0)(AX), Y0; \
	VMOVDQU (warpJob_x+32)(AX), Y1; \
	VMOVDQU (warpJob_y+0)(AX), Y2; \
	VMOVDQU (warpJob_y+32)(AX), Y3; \
	PLACES(warpJob_w); \
	MOVQ warpJob_w(AX), DX; \
	SHLQ $bytesShift, DX; \
	TAPS(ROW, warpJob_planes, Y10); \
	VMOVQ warpJob_shiftX(AX), X4; \
	VMOVDQU (warpJob_x+0)(AX), Y0; \
	VMOVDQU (warpJob_x+32)(AX), Y1; \
	VPBROADCASTQ warpJob_stepX(AX), Y5; \
	VPADDQ Y0, Y5, Y6; \
	VMOVDQU Y6, (warpJob_x+0)(AX); \
	VPADDQ Y1, Y5, Y6; \
	VMOVDQU Y6, (warpJob_x+32)(AX); \
	VPSRLQ X4, Y0, Y0; \
	VPSRLQ X4, Y1, Y1; \
	VMOVQ warpJob_shiftY(AX), X4; \
	VMOVDQU (warpJob_y+0)(AX), Y2; \
	VMOVDQU (warpJob_y+32)(AX), Y3; \
	VPBROADCASTQ warpJob_stepY(AX), Y5; \
	VPADDQ Y2, Y5, Y6; \
	VMOVDQU Y6, (warpJob_y+0)(AX); \
	VPADDQ Y3, Y5, Y6; \
	VMOVDQU Y6, (warpJob_y+32)(AX); \
	VPBROADCASTQ warpJob_siteY(AX), Y5; \
	VPSRLQ X4, Y2, Y2; \
	VPSUBQ Y5, Y2, Y2; \
	VPSRLQ X4, Y3, Y3; \
	VPSUBQ Y5, Y3, Y3; \
	PLACES(warpJob_cw); \
	MOVQ warpJob_cw(AX), DX; \
	SHLQ $bytesShift, DX; \
	TAPS(ROW, (warpJob_planes+8), Y11); \
	TAPS(ROW, (warpJob_planes+16), Y12); \
	VPSRLQ $32, Y10, Y4; \
	PRODUCTS(warpJob_yMul, Y10, Y4, Y0, Y1); \
	VPSRLQ $32, Y11, Y13; \
	VPSRLQ $32, Y12, Y14; \
	PRODUCTS(warpJob_rv, Y12, Y14, Y2, Y3); \
	VPADDQ Y0, Y2, Y2; \
	VPADDQ Y1, Y3, Y3; \
	ADDALL(warpJob_r, Y2, Y3); \
	LEVELS(Y2, Y3); \
	PRODUCTS(warpJob_gu, Y11, Y13, Y4, Y5); \
	VPSUBQ Y4, Y0, Y8; \
	VPSUBQ Y5, Y1, Y9; \
	PRODUCTS(warpJob_gv, Y12, Y14, Y4, Y5); \
	VPSUBQ Y4, Y8, Y8; \
	VPSUBQ Y5, Y9, Y9; \
	ADDALL(warpJob_g, Y8, Y9); \
	LEVELS(Y8, Y9); \
	PRODUCTS(warpJob_bu, Y11, Y13, Y4, Y5); \
	VPADDQ Y0, Y4, Y4; \
	VPADDQ Y1, Y5, Y5; \
	ADDALL(warpJob_b, Y4, Y5); \
	LEVELS(Y4, Y5); \
	VPSLLD $8, Y8, Y8; \
	VPSLLD $16, Y4, Y4; \
	VPOR Y8, Y2, Y2; \
	VPOR Y4, Y2, Y2; \
	VPSHUFB packed<>(SB), Y2, Y2; \
	MOVQ warpJob_dst(AX), BX; \
	VMOVQ X2, (BX); \
	VPEXTRD $2, X2, 8(BX); \
	VEXTRACTI128 $1, Y2, X2; \
	VMOVQ X2, 12(BX); \
	VPEXTRD $2, X2, 20(BX); \
	ADDQ $24, BX; \
	MOVQ BX, warpJob_dst(AX); \
	SUBQ $8, CX; \
	JG loop; \
	VZEROUPPER; \
	RET

// func warp8AVX2(job *warpJob)
TEXT ·warp8AVX2(SB), NOSPLIT, $0-8
	WARP(ROW8, 0)

// func warp16AVX2(job *warpJob)
TEXT ·warp16AVX2(SB), NOSPLIT, $0-8
	WARP(ROW16, 1)
