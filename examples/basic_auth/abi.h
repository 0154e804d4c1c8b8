// What this module uses of Envoy's dynamic module ABI "v0.2.0", and what its C and Go parts know of each other.
//
// Written by hand against source/extensions/dynamic_modules/abi/abi.h of Envoy 1.40.0. A name below that begins with
// envoy_dynamic_module_ is that header's; types that are plain pointers there are void pointers here.
#ifndef MOE_BASIC_AUTH_ABI_H
#define MOE_BASIC_AUTH_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// envoy_dynamic_module_type_envoy_buffer: bytes that belong to Envoy, valid until the event ends.
typedef struct {
  const char *ptr;
  size_t length;
} envoy_buffer;

// envoy_dynamic_module_type_module_buffer: bytes that belong to the module, copied by Envoy.
typedef struct {
  const char *ptr;
  size_t length;
} module_buffer;

// envoy_dynamic_module_type_module_http_header
typedef struct {
  const char *key_ptr;
  size_t key_length;
  const char *value_ptr;
  size_t value_length;
} module_http_header;

// envoy_dynamic_module_type_http_header_type
enum { HEADER_TYPE_REQUEST = 0 };

// envoy_dynamic_module_type_log_level
enum { LOG_WARN = 3, LOG_ERROR = 4 };

// envoy_dynamic_module_type_metrics_result
enum { METRICS_SUCCESS = 0 };

// envoy_dynamic_module_type_on_http_filter_request_headers_status
enum {
  REQUEST_HEADERS_CONTINUE = 0,
  REQUEST_HEADERS_STOP_ITERATION = 1,
  // The body waits too: Envoy buffers it up to its limit, then stops reading.
  REQUEST_HEADERS_STOP_ALL_ITERATION_AND_WATERMARK = 4,
};

// "Continue" of the statuses that the other events return.
enum { CONTINUE = 0 };

// Callbacks: Envoy's functions. `filter` is the filter_envoy_ptr of the stream.

void envoy_dynamic_module_callback_log(int level, module_buffer message);

// Main thread only.
uint32_t envoy_dynamic_module_callback_get_concurrency(void);

// Only while config_new runs. The metric's name in Envoy is dynamicmodulescustom.NAME.
int envoy_dynamic_module_callback_http_filter_config_define_counter(void *config, module_buffer name,
                                                                    module_buffer *label_names, size_t labels,
                                                                    size_t *id);
int envoy_dynamic_module_callback_http_filter_increment_counter(void *filter, size_t id, module_buffer *label_values,
                                                                size_t labels, uint64_t value);

// From 0 to the concurrency, less one, on a worker.
uint32_t envoy_dynamic_module_callback_http_filter_get_worker_index(void *filter);

// `values` receives how many headers have the key. False if there is none at the index.
bool envoy_dynamic_module_callback_http_get_header(void *filter, int header_type, module_buffer key,
                                                   envoy_buffer *value, size_t index, size_t *values);

// `details` is what an access log shows as RESPONSE_CODE_DETAILS.
void envoy_dynamic_module_callback_http_send_response(void *filter, uint32_t status, module_http_header *headers,
                                                      size_t count, module_buffer body, module_buffer details);

void envoy_dynamic_module_callback_http_filter_continue_decoding(void *filter);

// A scheduler brings an event from any thread to the worker that owns the stream. The module deletes it. An event that
// arrives after the stream has gone is dropped by Envoy.
void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *filter);
void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *scheduler, uint64_t event);
void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *scheduler);

// Between the C and the Go part.

// The values of auth.Verdict.
enum verdict { DENIED, ALLOWED, EXPIRED, OVERLOADED, UNDECIDED };

// What C keeps of an auth.Guard.
typedef struct {
  uintptr_t handle;  // 0 if there is none
  char *challenge;   // WWW-Authenticate, allocated with malloc
  size_t challenge_length;
  uint64_t key[2];  // random, for tags of recent acceptances
} basic_auth_guard;

// One stream's wait for bcrypt, shared by its worker and the goroutine that calls basic_auth_finish.
typedef struct basic_auth_wait basic_auth_wait;

// Called by Go, from any thread, exactly once for a wait that basic_auth_verify has taken.
void basic_auth_finish(basic_auth_wait *wait, int verdict);

#endif
