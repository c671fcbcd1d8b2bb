// What examples/live.cpp needs of ONNX Runtime's C interface, for machines that have the library
// (inside the Python wheel) but not its header. `OrtApi` is a table of functions whose places never
// change: new versions only append. Programs should use the header that comes with the runtime.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtAllocator;
struct OrtStatus;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };
enum ONNXTensorElementDataType { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1 };
typedef OrtStatus* S;

struct OrtApi {
  void* before_2[2];
  const char* (*GetErrorMessage)(const OrtStatus*);
  S (*CreateEnv)(OrtLoggingLevel, const char*, OrtEnv**);
  void* before_7[3];
  S (*CreateSession)(const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**);
  void* before_9[1];
  S (*Run)(OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, size_t,
           const char* const*, size_t, OrtValue**);
  S (*CreateSessionOptions)(OrtSessionOptions**);
  void* before_24[13];
  S (*SetIntraOpNumThreads)(OrtSessionOptions*, int);
  void* before_30[5];
  S (*SessionGetInputCount)(const OrtSession*, size_t*);
  void* before_33[2];
  S (*SessionGetInputTypeInfo)(const OrtSession*, size_t, OrtTypeInfo**);
  void* before_36[2];
  S (*SessionGetInputName)(const OrtSession*, size_t, OrtAllocator*, char**);
  S (*SessionGetOutputName)(const OrtSession*, size_t, OrtAllocator*, char**);
  void* before_48[10];
  S (*CreateTensorAsOrtValue)(OrtAllocator*, const int64_t*, size_t, ONNXTensorElementDataType,
                              OrtValue**);
  void* before_51[2];
  S (*GetTensorMutableData)(OrtValue*, void**);
  void* before_55[3];
  S (*CastTypeInfoToTensorInfo)(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**);
  void* before_61[5];
  S (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t*);
  S (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t);
  void* before_64[1];
  S (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*, size_t*);
  void* before_78[13];
  S (*GetAllocatorWithDefaultOptions)(OrtAllocator**);
  void* before_96[17];
  void (*ReleaseValue)(OrtValue*);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};
const OrtApiBase* OrtGetApiBase();
}
