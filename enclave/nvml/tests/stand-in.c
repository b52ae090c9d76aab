/* A stand-in for NVIDIA's management library: the six functions the worker calls, with the layouts
   of the public header. It answers with what it was given, so that a struct that is laid out
   differently on the other side comes back as something else. Tests compile it with -D. */

#include <string.h>

#ifndef INIT_CODE
#define INIT_CODE 0
#endif
#ifndef ENVIRONMENT
#define ENVIRONMENT 2
#endif
#ifndef FEATURE
#define FEATURE 1
#endif
#ifndef DEV_TOOLS
#define DEV_TOOLS 0
#endif
#ifndef REPORT_CODE
#define REPORT_CODE 0
#endif
#ifndef REPORT_SIZE
#define REPORT_SIZE 33
#endif
#ifndef CHAIN_SIZE
#define CHAIN_SIZE 10
#endif

typedef struct {
    unsigned int environment;
    unsigned int ccFeature;
    unsigned int devToolsMode;
} State;

typedef struct {
    unsigned int isCecAttestationReportPresent;
    unsigned int attestationReportSize;
    unsigned int cecAttestationReportSize;
    unsigned char nonce[0x20];
    unsigned char attestationReport[0x2000];
    unsigned char cecAttestationReport[0x1000];
} Report;

typedef struct {
    unsigned int certChainSize;
    unsigned int attestationCertChainSize;
    unsigned char certChain[0x1000];
    unsigned char attestationCertChain[0x1400];
} Certificates;

static unsigned char devices[2] = {0, 1};

int nvmlInit_v2(void) { return INIT_CODE; }

#ifndef WITHOUT_STATE
int nvmlSystemGetConfComputeState(State *state) {
    state->environment = ENVIRONMENT;
    state->ccFeature = FEATURE;
    state->devToolsMode = DEV_TOOLS;
    return 0;
}
#endif

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 2;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index > 1) return 2;
    *device = &devices[index];
    return 0;
}

int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, Report *report) {
    memcpy(report->attestationReport, report->nonce, sizeof report->nonce);
    report->attestationReport[0x20] = *(unsigned char *)device;
    report->attestationReportSize = REPORT_SIZE;
    report->isCecAttestationReportPresent = 0;
    return REPORT_CODE;
}

int nvmlDeviceGetConfComputeGpuCertificate(void *device, Certificates *certificates) {
    memcpy(certificates->certChain, "not this one", 12);
    certificates->certChainSize = 12;
    memcpy(certificates->attestationCertChain, "chain of ", 9);
    certificates->attestationCertChain[9] = '0' + *(unsigned char *)device;
    certificates->attestationCertChainSize = CHAIN_SIZE;
    return 0;
}
