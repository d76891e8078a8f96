// What rows_amd64.s and field_amd64.s share.

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
