// Every kernel in one module.
#include "product.cu"
#include "rows.cu"
#include "experts.cu"
#include "attention.cu"
