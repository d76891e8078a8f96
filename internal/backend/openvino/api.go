package openvino

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
)

// handle is a pointer to one of the library's opaque objects.
type handle = uintptr

// The values of ov_status_e that mean something to the binding; all failures
// are negative.
const (
	statusCancelled = -13 // INFER_CANCELLED
	statusBadParam  = -14 // INVALID_C_PARAM
	nodeExecuted    = 2   // EXECUTED of ov_profiling_info_t
)

// version is ov_version_t.
type version struct {
	buildNumber *byte
	_           *byte // description
}

// deviceList is ov_available_devices_t.
type deviceList struct {
	names **byte
	n     uintptr
}

// property is ov_property_t: a key with a text as its value.
type property struct{ key, value *byte }

// shape is ov_shape_t.
type shape struct {
	rank int64
	dims unsafe.Pointer // int64_t*
}

// dimension is ov_dimension_t, its limits inclusive.
type dimension struct{ min, max int64 }

// profiling is ov_profiling_info_t; the times are in microseconds.
type profiling struct {
	status   int32
	realTime int64
	_        int64 // cpu_time
	name     *byte
	_        *byte // exec_type
	nodeType *byte
}

// profilingList is ov_profiling_info_list_t.
type profilingList struct {
	infos *profiling
	n     uintptr
}

// partialShape is ov_partial_shape_t.
type partialShape struct {
	rank dimension
	dims *dimension
}

// api holds the functions of libopenvino_c that the binding calls, each with
// its C prototype. Where the library offers both C varargs and an array, the
// array is used: varargs differ from normal arguments on some machines.
type api struct {
	// ov_status_e ov_get_openvino_version(ov_version_t* version);
	getVersion func(out *version) int32
	// void ov_version_free(ov_version_t* version);
	versionFree func(v *version)
	// const char* ov_get_last_err_msg(); the text is the caller's, for ov_free
	lastError func() *byte
	// const char* ov_get_error_info(ov_status_e status); static
	errorInfo func(status int32) string
	// void ov_free(const char* content);
	free func(p *byte)

	// ov_status_e ov_core_create(ov_core_t** core);
	coreCreate func(out *handle) int32
	// void ov_core_free(ov_core_t* core);
	coreFree func(core handle)
	// ov_status_e ov_core_get_available_devices(const ov_core_t* core, ov_available_devices_t* devices);
	availableDevices func(core handle, out *deviceList) int32
	// void ov_available_devices_free(ov_available_devices_t* devices);
	devicesFree func(list *deviceList)
	// ov_status_e ov_core_get_property(const ov_core_t* core, const char* device_name, const char* property_key, char** property_value);
	getProperty func(core handle, device, key string, out **byte) int32
	// ov_status_e ov_core_read_model(const ov_core_t* core, const char* model_path, const char* bin_path, ov_model_t** model);
	readModel func(core handle, path string, bin *byte, out *handle) int32
	// ov_status_e ov_core_read_model_from_memory_buffer(const ov_core_t* core, const char* model_str, const size_t str_len,
	//   const ov_tensor_t* weights, ov_model_t** model);
	readModelFromMemory func(core handle, data *byte, n uintptr, weights handle, out *handle) int32
	// ov_status_e ov_core_compile_model_props(const ov_core_t* core, const ov_model_t* model, const char* device_name,
	//   const size_t num_properties, const ov_property_t* properties, ov_compiled_model_t** compiled_model);
	compile func(core, model handle, device string, n uintptr, props *property, out *handle) int32

	// void ov_model_free(ov_model_t* model);
	modelFree func(model handle)
	// ov_status_e ov_model_const_input_by_index(const ov_model_t* model, const size_t index, ov_output_const_port_t** input_port);
	modelInput func(model handle, i uintptr, out *handle) int32
	// ov_status_e ov_model_const_output_by_index(const ov_model_t* model, const size_t index, ov_output_const_port_t** output_port);
	modelOutput func(model handle, i uintptr, out *handle) int32
	// ov_status_e ov_model_inputs_size(const ov_model_t* model, size_t* input_size);
	modelInputs func(model handle, out *uintptr) int32
	// ov_status_e ov_model_outputs_size(const ov_model_t* model, size_t* output_size);
	modelOutputs func(model handle, out *uintptr) int32

	// ov_status_e ov_port_get_any_name(const ov_output_const_port_t* port, char** tensor_name);
	portName func(port handle, out **byte) int32
	// ov_status_e ov_port_get_element_type(const ov_output_const_port_t* port, ov_element_type_e* tensor_type);
	portType func(port handle, out *int32) int32
	// ov_status_e ov_port_get_partial_shape(const ov_output_const_port_t* port, ov_partial_shape_t* partial_shape);
	portShape func(port handle, out *partialShape) int32
	// void ov_partial_shape_free(ov_partial_shape_t* partial_shape);
	partialShapeFree func(s *partialShape)
	// void ov_output_const_port_free(ov_output_const_port_t* port);
	portFree func(port handle)

	// void ov_compiled_model_free(ov_compiled_model_t* compiled_model);
	compiledFree func(compiled handle)
	// ov_status_e ov_compiled_model_create_infer_request(const ov_compiled_model_t* compiled_model, ov_infer_request_t** infer_request);
	createRequest func(compiled handle, out *handle) int32
	// void ov_infer_request_free(ov_infer_request_t* infer_request);
	requestFree func(request handle)
	// ov_status_e ov_infer_request_set_input_tensor_by_index(ov_infer_request_t* infer_request, const size_t idx, const ov_tensor_t* tensor);
	setInput func(request handle, i uintptr, t handle) int32
	// ov_status_e ov_infer_request_set_output_tensor_by_index(ov_infer_request_t* infer_request, const size_t idx, const ov_tensor_t* tensor);
	setOutput func(request handle, i uintptr, t handle) int32
	// ov_status_e ov_infer_request_get_output_tensor_by_index(const ov_infer_request_t* infer_request, const size_t idx, ov_tensor_t** tensor);
	getOutput func(request handle, i uintptr, out *handle) int32
	// ov_status_e ov_infer_request_start_async(ov_infer_request_t* infer_request);
	start func(request handle) int32
	// ov_status_e ov_infer_request_wait(ov_infer_request_t* infer_request);
	wait func(request handle) int32
	// ov_status_e ov_infer_request_cancel(ov_infer_request_t* infer_request);
	cancel func(request handle) int32

	// ov_status_e ov_infer_request_get_profiling_info(const ov_infer_request_t* infer_request, ov_profiling_info_list_t* profiling_infos);
	profilingInfo func(request handle, out *profilingList) int32
	// void ov_profiling_info_list_free(ov_profiling_info_list_t* profiling_infos);
	profilingFree func(list *profilingList)

	// ov_status_e ov_tensor_create_from_host_ptr(const ov_element_type_e type, const ov_shape_t shape, void* host_ptr, ov_tensor_t** tensor);
	tensorFromHost func(dtype int32, s shape, data unsafe.Pointer, out *handle) int32
	// ov_status_e ov_tensor_get_shape(const ov_tensor_t* tensor, ov_shape_t* shape);
	tensorShape func(t handle, out *shape) int32
	// ov_status_e ov_shape_free(ov_shape_t* shape);
	shapeFree func(s *shape) int32
	// ov_status_e ov_tensor_get_element_type(const ov_tensor_t* tensor, ov_element_type_e* type);
	tensorType func(t handle, out *int32) int32
	// ov_status_e ov_tensor_get_byte_size(const ov_tensor_t* tensor, size_t* byte_size);
	tensorBytes func(t handle, out *uintptr) int32
	// ov_status_e ov_tensor_data(const ov_tensor_t* tensor, void** data);
	tensorData func(t handle, out **byte) int32
	// void ov_tensor_free(ov_tensor_t* tensor);
	tensorFree func(t handle)
}

func (a *api) funcs() []native.Func {
	return []native.Func{
		{Name: "ov_get_openvino_version", Ptr: &a.getVersion},
		{Name: "ov_version_free", Ptr: &a.versionFree},
		{Name: "ov_get_last_err_msg", Ptr: &a.lastError},
		{Name: "ov_get_error_info", Ptr: &a.errorInfo},
		{Name: "ov_free", Ptr: &a.free},
		{Name: "ov_core_create", Ptr: &a.coreCreate},
		{Name: "ov_core_free", Ptr: &a.coreFree},
		{Name: "ov_core_get_available_devices", Ptr: &a.availableDevices},
		{Name: "ov_available_devices_free", Ptr: &a.devicesFree},
		{Name: "ov_core_get_property", Ptr: &a.getProperty},
		{Name: "ov_core_read_model", Ptr: &a.readModel},
		{Name: "ov_core_read_model_from_memory_buffer", Ptr: &a.readModelFromMemory},
		{Name: "ov_core_compile_model_props", Ptr: &a.compile},
		{Name: "ov_model_free", Ptr: &a.modelFree},
		{Name: "ov_model_const_input_by_index", Ptr: &a.modelInput},
		{Name: "ov_model_const_output_by_index", Ptr: &a.modelOutput},
		{Name: "ov_model_inputs_size", Ptr: &a.modelInputs},
		{Name: "ov_model_outputs_size", Ptr: &a.modelOutputs},
		{Name: "ov_port_get_any_name", Ptr: &a.portName},
		{Name: "ov_port_get_element_type", Ptr: &a.portType},
		{Name: "ov_port_get_partial_shape", Ptr: &a.portShape},
		{Name: "ov_partial_shape_free", Ptr: &a.partialShapeFree},
		{Name: "ov_output_const_port_free", Ptr: &a.portFree},
		{Name: "ov_compiled_model_free", Ptr: &a.compiledFree},
		{Name: "ov_compiled_model_create_infer_request", Ptr: &a.createRequest},
		{Name: "ov_infer_request_free", Ptr: &a.requestFree},
		{Name: "ov_infer_request_set_input_tensor_by_index", Ptr: &a.setInput},
		{Name: "ov_infer_request_set_output_tensor_by_index", Ptr: &a.setOutput},
		{Name: "ov_infer_request_get_output_tensor_by_index", Ptr: &a.getOutput},
		{Name: "ov_infer_request_start_async", Ptr: &a.start},
		{Name: "ov_infer_request_wait", Ptr: &a.wait},
		{Name: "ov_infer_request_cancel", Ptr: &a.cancel},
		{Name: "ov_infer_request_get_profiling_info", Ptr: &a.profilingInfo},
		{Name: "ov_profiling_info_list_free", Ptr: &a.profilingFree},
		{Name: "ov_tensor_create_from_host_ptr", Ptr: &a.tensorFromHost},
		{Name: "ov_tensor_get_shape", Ptr: &a.tensorShape},
		{Name: "ov_shape_free", Ptr: &a.shapeFree},
		{Name: "ov_tensor_get_element_type", Ptr: &a.tensorType},
		{Name: "ov_tensor_get_byte_size", Ptr: &a.tensorBytes},
		{Name: "ov_tensor_data", Ptr: &a.tensorData},
		{Name: "ov_tensor_free", Ptr: &a.tensorFree},
	}
}

// The versions that the binding was written for. The numbers of the element
// types change between releases, so another year's library is refused.
const (
	wantYear     = 2026
	wantMinMinor = 4
)

// loadAPI binds the functions of lib and checks its version. The version comes first,
// because an older library lacks functions and should be reported as too old.
func loadAPI(lib *native.Library) (*api, string, error) {
	fail := func(cause string) (*api, string, error) {
		return nil, "", fault.Missing.New("load library "+lib.Path(), cause, hint)
	}
	a := &api{}
	all := a.funcs()
	if err := lib.Bind(hint, all[:2]...); err != nil {
		return nil, "", err
	}
	var v version
	if status := a.getVersion(&v); status != 0 {
		return fail(fmt.Sprintf("its version cannot be read (status %d)", status))
	}
	build := native.GoString(v.buildNumber) // "2026.4.1-22982-cc81c0ffa81-releases/2026/4"
	a.versionFree(&v)
	var year, minor int
	if _, err := fmt.Sscanf(build, "%d.%d", &year, &minor); err != nil {
		return fail(fmt.Sprintf("its version is %q", build))
	}
	number, _, _ := strings.Cut(build, "-")
	if year != wantYear || minor < wantMinMinor {
		return fail(fmt.Sprintf("it is OpenVINO %s; version %d.%d or a later one of %d is needed", number, wantYear, wantMinMinor, wantYear))
	}
	if err := lib.Bind(hint, all...); err != nil {
		return nil, "", err
	}
	return a, number, nil
}

// check converts a status to an error. The library keeps one text for the whole
// process, so if two sessions fail at the same time, their texts may be swapped.
func (a *api) check(status int32) error {
	if status == 0 {
		return nil
	}
	var text string
	if p := a.lastError(); p != nil {
		text = tidy(native.GoString(p))
		a.free(p)
	}
	if text == "" {
		text = a.errorInfo(status)
	}
	return &backend.Status{Code: status, Text: text}
}

// tidy converts an exception's text to one line, without the positions in the
// library's source.
func tidy(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Exception from ") {
			continue
		}
		parts = append(parts, line)
	}
	return strings.Join(parts, " ")
}
