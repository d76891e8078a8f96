package onnxruntime

import (
	"fmt"
	"regexp"
	"strings"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
)

// apiVersion is the ORT_API_VERSION that this binding was written against:
// the first with CopyTensors. The table of functions only grows from
// version to version, so every later library has the same entries.
const apiVersion = 23

// The values of the C enumerations that the binding uses.
const (
	logWarning      = 2  // ORT_LOGGING_LEVEL_WARNING
	optimiseAll     = 99 // ORT_ENABLE_ALL
	arenaAllocator  = 1  // OrtArenaAllocator
	memTypeDefault  = 0  // OrtMemTypeDefault
	typeTensor      = 1  // ONNX_TYPE_TENSOR
	codeNoSuchFile  = 3  // ORT_NO_SUCHFILE
	codeNoModel     = 4  // ORT_NO_MODEL
	codeBadProtobuf = 7  // ORT_INVALID_PROTOBUF
	codeBadGraph    = 10 // ORT_INVALID_GRAPH
)

// handle is a pointer to one of the library's opaque objects.
type handle = uintptr

// api holds the functions of OrtApi that the binding calls, each with its C
// prototype; every "OrtStatus*" is nil for success and released after use.
// The number at the end is its index in the table.
type api struct {
	// OrtErrorCode GetErrorCode(const OrtStatus*); 1
	getErrorCode func(status handle) int32
	// const char* GetErrorMessage(const OrtStatus*); 2
	getErrorMessage func(status handle) string
	// OrtStatus* CreateEnvWithCustomLogger(OrtLoggingFunction, void* param, OrtLoggingLevel, const char* logid, OrtEnv** out); 4
	createEnv func(logger uintptr, param uintptr, level int32, id string, out *handle) handle
	// OrtStatus* CreateSession(const OrtEnv*, const ORTCHAR_T* path, const OrtSessionOptions*, OrtSession** out); 7
	createSession func(env handle, path unsafe.Pointer, options handle, out *handle) handle
	// OrtStatus* CreateSessionFromArray(const OrtEnv*, const void* data, size_t, const OrtSessionOptions*, OrtSession** out); 8
	createSessionFromArray func(env handle, data *byte, n uintptr, options handle, out *handle) handle
	// OrtStatus* Run(OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const* inputs,
	//   size_t input_len, const char* const* output_names, size_t output_names_len, OrtValue** outputs); 9
	run func(session, options handle, inNames **byte, in *handle, nIn uintptr, outNames **byte, nOut uintptr, out *handle) handle
	// OrtStatus* CreateSessionOptions(OrtSessionOptions** out); 10
	createSessionOptions func(out *handle) handle
	// OrtStatus* EnableProfiling(OrtSessionOptions*, const ORTCHAR_T* file_prefix); 14
	enableProfiling func(options handle, prefix unsafe.Pointer) handle
	// OrtStatus* DisableMemPattern(OrtSessionOptions*); 17
	disableMemPattern func(options handle) handle
	// OrtStatus* EnableCpuMemArena(OrtSessionOptions*); 18
	enableCPUMemArena func(options handle) handle
	// OrtStatus* SetSessionGraphOptimizationLevel(OrtSessionOptions*, GraphOptimizationLevel); 23
	setOptimisation func(options handle, level int32) handle
	// OrtStatus* SetIntraOpNumThreads(OrtSessionOptions*, int); 24
	setIntraOpThreads func(options handle, n int32) handle
	// OrtStatus* SetInterOpNumThreads(OrtSessionOptions*, int); 25
	setInterOpThreads func(options handle, n int32) handle
	// OrtStatus* SessionGetInputCount(const OrtSession*, size_t* out); 30
	inputCount func(session handle, out *uintptr) handle
	// OrtStatus* SessionGetOutputCount(const OrtSession*, size_t* out); 31
	outputCount func(session handle, out *uintptr) handle
	// OrtStatus* SessionGetInputTypeInfo(const OrtSession*, size_t, OrtTypeInfo** out); 33
	inputTypeInfo func(session handle, i uintptr, out *handle) handle
	// OrtStatus* SessionGetOutputTypeInfo(const OrtSession*, size_t, OrtTypeInfo** out); 34
	outputTypeInfo func(session handle, i uintptr, out *handle) handle
	// OrtStatus* SessionGetInputName(const OrtSession*, size_t, OrtAllocator*, char** out); 36
	inputName func(session handle, i uintptr, allocator handle, out **byte) handle
	// OrtStatus* SessionGetOutputName(const OrtSession*, size_t, OrtAllocator*, char** out); 37
	outputName func(session handle, i uintptr, allocator handle, out **byte) handle
	// OrtStatus* CreateRunOptions(OrtRunOptions** out); 39
	createRunOptions func(out *handle) handle
	// OrtStatus* RunOptionsSetTerminate(OrtRunOptions*); 46
	setTerminate func(options handle) handle
	// OrtStatus* RunOptionsUnsetTerminate(OrtRunOptions*); 47
	unsetTerminate func(options handle) handle
	// OrtStatus* CreateTensorAsOrtValue(OrtAllocator*, const int64_t* shape, size_t rank, ONNXTensorElementDataType, OrtValue** out); 48
	createDeviceTensor func(allocator handle, shape *int64, rank uintptr, dtype int32, out *handle) handle
	// OrtStatus* CreateTensorWithDataAsOrtValue(const OrtMemoryInfo*, void* data, size_t bytes, const int64_t* shape,
	//   size_t rank, ONNXTensorElementDataType, OrtValue** out); 49
	createTensor func(info handle, data unsafe.Pointer, n uintptr, shape *int64, rank uintptr, dtype int32, out *handle) handle
	// OrtStatus* IsTensor(const OrtValue*, int* out); 50
	isTensor func(value handle, out *int32) handle
	// OrtStatus* GetTensorMutableData(OrtValue*, void** out); 51
	tensorData func(value handle, out **byte) handle
	// OrtStatus* CastTypeInfoToTensorInfo(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo** out); 55
	tensorInfo func(info handle, out *handle) handle
	// OrtStatus* GetOnnxTypeFromTypeInfo(const OrtTypeInfo*, ONNXType* out); 56
	onnxType func(info handle, out *int32) handle
	// OrtStatus* GetTensorElementType(const OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType* out); 60
	elementType func(info handle, out *int32) handle
	// OrtStatus* GetDimensionsCount(const OrtTensorTypeAndShapeInfo*, size_t* out); 61
	rank func(info handle, out *uintptr) handle
	// OrtStatus* GetDimensions(const OrtTensorTypeAndShapeInfo*, int64_t* out, size_t); 62
	dimensions func(info handle, out *int64, n uintptr) handle
	// OrtStatus* GetTensorTypeAndShape(const OrtValue*, OrtTensorTypeAndShapeInfo** out); 65
	typeAndShape func(value handle, out *handle) handle
	// OrtStatus* CreateCpuMemoryInfo(OrtAllocatorType, OrtMemType, OrtMemoryInfo** out); 69
	createCPUMemoryInfo func(allocator, mem int32, out *handle) handle
	// OrtStatus* AllocatorAlloc(OrtAllocator*, size_t, void** out); 75
	allocatorAlloc func(allocator handle, n uintptr, out **byte) handle
	// OrtStatus* AllocatorFree(OrtAllocator*, void*); 76
	allocatorFree func(allocator handle, p *byte) handle
	// OrtStatus* GetAllocatorWithDefaultOptions(OrtAllocator** out); 78 (not to be released)
	defaultAllocator func(out *handle) handle
	// void ReleaseEnv(OrtEnv*); 92
	releaseEnv func(handle)
	// void ReleaseStatus(OrtStatus*); 93
	releaseStatus func(handle)
	// void ReleaseMemoryInfo(OrtMemoryInfo*); 94
	releaseMemoryInfo func(handle)
	// void ReleaseSession(OrtSession*); 95
	releaseSession func(handle)
	// void ReleaseValue(OrtValue*); 96
	releaseValue func(handle)
	// void ReleaseRunOptions(OrtRunOptions*); 97
	releaseRunOptions func(handle)
	// void ReleaseTypeInfo(OrtTypeInfo*); 98
	releaseTypeInfo func(handle)
	// void ReleaseTensorTypeAndShapeInfo(OrtTensorTypeAndShapeInfo*); 99
	releaseTensorInfo func(handle)
	// void ReleaseSessionOptions(OrtSessionOptions*); 100
	releaseSessionOptions func(handle)
	// OrtStatus* SessionEndProfiling(OrtSession*, OrtAllocator*, char** out); 110
	endProfiling func(session, allocator handle, out **byte) handle
	// OrtStatus* GetAvailableProviders(char*** out, int* n); 125
	availableProviders func(out ***byte, n *int32) handle
	// OrtStatus* ReleaseAvailableProviders(char**, int n); 126
	releaseProviders func(list **byte, n int32) handle
	// OrtStatus* AddSessionConfigEntry(OrtSessionOptions*, const char* key, const char* value); 130
	addSessionConfig func(options handle, key, value string) handle
	// OrtStatus* CreateAllocator(const OrtSession*, const OrtMemoryInfo*, OrtAllocator** out); 131
	createAllocator func(session, info handle, out *handle) handle
	// void ReleaseAllocator(OrtAllocator*); 132
	releaseAllocator func(handle)
	// void ReleaseArenaCfg(OrtArenaCfg*); 157
	releaseArenaCfg func(handle)
	// OrtStatus* CreateArenaCfgV2(const char* const* keys, const size_t* values, size_t n, OrtArenaCfg** out); 164
	createArenaCfg func(keys **byte, values *uintptr, n uintptr, out *handle) handle
	// OrtStatus* AddRunConfigEntry(OrtRunOptions*, const char* key, const char* value); 165
	addRunConfig func(options handle, key, value string) handle
	// OrtStatus* UnregisterAllocator(OrtEnv*, const OrtMemoryInfo*); 177
	unregisterAllocator func(env, info handle) handle
	// OrtStatus* CreateMemoryInfo(const char* name, OrtAllocatorType, int id, OrtMemType, OrtMemoryInfo** out); 68
	createMemoryInfo func(name string, allocator, id, mem int32, out *handle) handle
	// OrtStatus* SessionOptionsAppendExecutionProvider_CUDA_V2(OrtSessionOptions*, const OrtCUDAProviderOptionsV2*); 204
	appendCUDA func(options, cuda handle) handle
	// OrtStatus* CreateCUDAProviderOptions(OrtCUDAProviderOptionsV2** out); 205
	createCUDAOptions func(out *handle) handle
	// OrtStatus* UpdateCUDAProviderOptions(OrtCUDAProviderOptionsV2*, const char* const* keys, const char* const* values, size_t n); 206
	updateCUDAOptions func(cuda handle, keys, values **byte, n uintptr) handle
	// void ReleaseCUDAProviderOptions(OrtCUDAProviderOptionsV2*); 208
	releaseCUDAOptions func(handle)
	// OrtStatus* AddExternalInitializers(OrtSessionOptions*, const char* const* names, const OrtValue* const* values, size_t n); 210
	addInitializers func(options handle, names **byte, values *handle, n uintptr) handle
	// OrtStatus* CreateAndRegisterAllocatorV2(OrtEnv*, const char* provider, const OrtMemoryInfo*, const OrtArenaCfg*,
	//   const char* const* keys, const char* const* values, size_t n); 259
	registerAllocator func(env handle, provider string, info, arena handle, keys, values **byte, n uintptr) handle
	// OrtStatus* SessionOptionsSetLoadCancellationFlag(OrtSessionOptions*, bool); 293
	setLoadCancellation func(options handle, cancel bool) handle
	// const char* GetKeyValue(const OrtKeyValuePairs*, const char* key); 297
	keyValue func(pairs handle, key string) string
	// void ReleaseKeyValuePairs(OrtKeyValuePairs*); 300
	releaseKeyValues func(handle)
	// OrtStatus* RegisterExecutionProviderLibrary(OrtEnv*, const char* registration_name, const ORTCHAR_T* path); 301
	registerLibrary func(env handle, name string, path unsafe.Pointer) handle
	// OrtStatus* GetEpDevices(const OrtEnv*, const OrtEpDevice* const** out, size_t* n); 303 (they belong to the environment)
	epDevices func(env handle, out **handle, n *uintptr) handle
	// OrtStatus* SessionOptionsAppendExecutionProvider_V2(OrtSessionOptions*, OrtEnv*, const OrtEpDevice* const* devices, size_t n,
	//   const char* const* keys, const char* const* values, size_t n_options); 304
	appendPlugin func(options, env handle, devices *handle, n uintptr, keys, values **byte, nOptions uintptr) handle
	// uint32_t HardwareDevice_VendorId(const OrtHardwareDevice*); 308
	hardwareVendor func(hardware handle) uint32
	// const char* EpDevice_EpName(const OrtEpDevice*); 312
	epName func(device handle) string
	// const OrtHardwareDevice* EpDevice_Device(const OrtEpDevice*); 316
	epHardware func(device handle) handle
	// OrtStatus* AllocatorGetStats(const OrtAllocator*, OrtKeyValuePairs** out); 319
	allocatorStats func(allocator handle, out *handle) handle
	// const OrtMemoryInfo* EpDevice_MemoryInfo(const OrtEpDevice*, OrtDeviceMemoryType); 374 (not to be released)
	epMemoryInfo func(device handle, memory int32) handle
	// OrtStatus* GetSharedAllocator(OrtEnv*, const OrtMemoryInfo*, OrtAllocator** out); 376 (not to be released)
	sharedAllocator func(env, info handle, out *handle) handle
	// OrtStatus* CopyTensors(const OrtEnv*, const OrtValue* const* from, OrtValue* const* to, OrtSyncStream*, size_t n); 386
	copyTensors func(env handle, from, to *handle, stream handle, n uintptr) handle
}

// entries pairs each function with its place in the table. The indices were
// taken by counting onnxruntime_c_api.h of API version 24 and are checked by
// what each function does in the conformance suite.
func (a *api) entries() map[int]any {
	return map[int]any{
		1: &a.getErrorCode, 2: &a.getErrorMessage, 4: &a.createEnv,
		7: &a.createSession, 8: &a.createSessionFromArray, 9: &a.run,
		10: &a.createSessionOptions, 14: &a.enableProfiling, 17: &a.disableMemPattern, 18: &a.enableCPUMemArena,
		23: &a.setOptimisation, 24: &a.setIntraOpThreads, 25: &a.setInterOpThreads,
		30: &a.inputCount, 31: &a.outputCount, 33: &a.inputTypeInfo, 34: &a.outputTypeInfo,
		36: &a.inputName, 37: &a.outputName,
		39: &a.createRunOptions, 46: &a.setTerminate, 47: &a.unsetTerminate,
		48: &a.createDeviceTensor, 49: &a.createTensor, 50: &a.isTensor, 51: &a.tensorData,
		55: &a.tensorInfo, 56: &a.onnxType, 60: &a.elementType, 61: &a.rank, 62: &a.dimensions,
		65: &a.typeAndShape, 68: &a.createMemoryInfo, 69: &a.createCPUMemoryInfo,
		75: &a.allocatorAlloc, 76: &a.allocatorFree, 78: &a.defaultAllocator,
		92: &a.releaseEnv, 93: &a.releaseStatus, 94: &a.releaseMemoryInfo, 95: &a.releaseSession,
		96: &a.releaseValue, 97: &a.releaseRunOptions, 98: &a.releaseTypeInfo,
		99: &a.releaseTensorInfo, 100: &a.releaseSessionOptions,
		110: &a.endProfiling, 125: &a.availableProviders, 126: &a.releaseProviders,
		130: &a.addSessionConfig,
		131: &a.createAllocator, 132: &a.releaseAllocator,
		157: &a.releaseArenaCfg, 164: &a.createArenaCfg,
		165: &a.addRunConfig, 177: &a.unregisterAllocator,
		204: &a.appendCUDA, 205: &a.createCUDAOptions, 206: &a.updateCUDAOptions, 208: &a.releaseCUDAOptions,
		210: &a.addInitializers, 259: &a.registerAllocator,
		293: &a.setLoadCancellation, 297: &a.keyValue, 300: &a.releaseKeyValues,
		301: &a.registerLibrary, 303: &a.epDevices, 304: &a.appendPlugin,
		308: &a.hardwareVendor, 312: &a.epName, 316: &a.epHardware,
		319: &a.allocatorStats, 374: &a.epMemoryInfo, 376: &a.sharedAllocator, 386: &a.copyTensors,
	}
}

// tableLen is one more than the highest index in entries.
const tableLen = 387

// apiBase is struct OrtApiBase:
//
//	const OrtApi* (*GetApi)(uint32_t version);
//	const char*   (*GetVersionString)(void);
type apiBase struct {
	getAPI, getVersionString uintptr
}

// loadAPI finds the table of functions in lib. It checks the version first, because
// an older library prints a complaint when it is asked for a newer table.
func loadAPI(lib *native.Library) (*api, string, error) {
	fail := func(cause string) (*api, string, error) {
		return nil, "", fault.Missing.New("load library "+lib.Path(), cause, hint)
	}
	// const OrtApiBase* OrtGetApiBase(void);
	var getBase func() *apiBase
	if err := lib.Bind(hint, native.Func{Name: "OrtGetApiBase", Ptr: &getBase}); err != nil {
		return nil, "", err
	}
	base := getBase()
	if base == nil || base.getAPI == 0 || base.getVersionString == 0 {
		return fail("OrtGetApiBase returns no functions; the file is damaged")
	}
	var getVersion func() string
	var getAPI func(version uint32) *[tableLen]uintptr
	if err := native.Register(&getVersion, base.getVersionString); err != nil {
		return nil, "", fault.Internal.Wrap("load library "+lib.Path(), err)
	}
	if err := native.Register(&getAPI, base.getAPI); err != nil {
		return nil, "", fault.Internal.Wrap("load library "+lib.Path(), err)
	}
	version := getVersion()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fail(fmt.Sprintf("its version is %q", version))
	}
	if major != 1 || minor < apiVersion {
		return fail(fmt.Sprintf("it is ONNX Runtime %s; version 1.%d or later (and below 2) is needed", version, apiVersion))
	}
	table := getAPI(apiVersion)
	if table == nil {
		return fail(fmt.Sprintf("ONNX Runtime %s does not offer version %d of its interface", version, apiVersion))
	}
	a := &api{}
	for i, fptr := range a.entries() {
		if table[i] == 0 {
			return fail(fmt.Sprintf("ONNX Runtime %s has no function %d in its table", version, i))
		}
		if err := native.Register(fptr, table[i]); err != nil {
			return nil, "", fault.Internal.Wrap("load library "+lib.Path(), err)
		}
	}
	return a, version, nil
}

// check turns a status into an error and releases it.
func (a *api) check(status handle) error {
	if status == 0 {
		return nil
	}
	err := &backend.Status{Code: a.getErrorCode(status), Text: brief(a.getErrorMessage(status))}
	a.releaseStatus(status)
	return err
}

// cudaFailure is what a message about a call of CUDA, cuBLAS or cuDNN says between the
// places in ONNX Runtime's source.
var cudaFailure = regexp.MustCompile(`\b(?:CUDA|CUBLAS|CUDNN|CUDNN_FE|CURAND) failure [^;]*[^;\s]|expr=.*`)

// runningNode is the node at which a Run has failed.
var runningNode = regexp.MustCompile(`while running (\S+ node\. Name:\S+)`)

// brief returns a message on one line. Of a failure of CUDA it keeps what has failed,
// and where in the graph.
func brief(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	parts := cudaFailure.FindAllString(message, -1)
	if len(parts) == 0 {
		return message
	}
	if node := runningNode.FindStringSubmatch(message); node != nil {
		parts = append(parts, node[1])
	}
	return strings.Join(parts, "; ")
}
