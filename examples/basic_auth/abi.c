// The events of Envoy's dynamic module ABI "v0.2.0" (Envoy 1.40.0). Whatever needs no Go is answered here, since every
// return from Go leaves its scheduler something to do, on a processor that a worker could use: of a request's events
// one enters Go, and only for a credential that this worker hasn't seen accepted of late.
#include "abi.h"

#include <pthread.h>
#include <stdlib.h>

#include "_cgo_export.h"
#include "recent/recent.h"

#define LITERAL(text) ((module_buffer){text, sizeof(text) - 1})

typedef struct {
  basic_auth_guard guard;
  size_t allowed, denied, expired, overloaded;  // counter ids
  uint32_t workers;
  recent *recents;  // one for each worker, used by no other thread
} config;

typedef struct {
  const config *config;
  basic_auth_wait *wait;  // not null while bcrypt works for this stream
} filter;

struct basic_auth_wait {
  pthread_mutex_t lock;
  void *scheduler;  // null once the stream has gone
  int owners;       // the stream, the goroutine
};

// Waiting for bcrypt

static basic_auth_wait *wait_new(void *stream) {
  basic_auth_wait *wait = malloc(sizeof *wait);
  if (wait == NULL) return NULL;
  pthread_mutex_init(&wait->lock, NULL);
  wait->scheduler = envoy_dynamic_module_callback_http_filter_scheduler_new(stream);
  wait->owners = 2;
  return wait;
}

// Gives up `owners` of the owners' shares; `wait->lock` is held.
static void wait_release(basic_auth_wait *wait, int owners) {
  wait->owners -= owners;
  bool last = wait->owners == 0;
  pthread_mutex_unlock(&wait->lock);
  if (last) {
    pthread_mutex_destroy(&wait->lock);
    free(wait);
  }
}

// The stream waits no more. From here on no commit can reach the scheduler or the worker behind it.
static void wait_leave(basic_auth_wait *wait, int owners) {
  pthread_mutex_lock(&wait->lock);
  envoy_dynamic_module_callback_http_filter_scheduler_delete(wait->scheduler);
  wait->scheduler = NULL;
  wait_release(wait, owners);
}

void basic_auth_finish(basic_auth_wait *wait, int verdict) {
  pthread_mutex_lock(&wait->lock);
  if (wait->scheduler != NULL)
    envoy_dynamic_module_callback_http_filter_scheduler_commit(wait->scheduler, (uint64_t)verdict);
  wait_release(wait, 1);
}

// Answering a request

static void count(void *stream, size_t id) {
  envoy_dynamic_module_callback_http_filter_increment_counter(stream, id, NULL, 0, 1);
}

static void refuse(void *stream, const config *config, int verdict) {
  if (verdict == OVERLOADED) {
    count(stream, config->overloaded);
    module_http_header header = {"retry-after", 11, "1", 1};
    envoy_dynamic_module_callback_http_send_response(stream, 503, &header, 1,
                                                     LITERAL("Too many credentials are being checked.\n"),
                                                     LITERAL("basic_auth_overloaded"));
    return;
  }
  count(stream, config->denied);
  if (verdict == EXPIRED) count(stream, config->expired);
  module_http_header header = {"www-authenticate", 16, config->guard.challenge,
                               config->guard.challenge_length};
  // A client learns nothing of why; the access log does.
  envoy_dynamic_module_callback_http_send_response(
      stream, 401, &header, 1, LITERAL("A valid user name and password are required.\n"),
      verdict == EXPIRED ? LITERAL("basic_auth_expired") : LITERAL("basic_auth_denied"));
}

static int decide(void *stream, filter *self, envoy_buffer value) {
  const basic_auth_guard *guard = &self->config->guard;
  uint32_t worker = envoy_dynamic_module_callback_http_filter_get_worker_index(stream);
  recent *recent = NULL;
  recent_tag tag;
  if (worker < self->config->workers && value.length <= RECENT_MAX_LENGTH) {
    recent = &self->config->recents[worker];
    tag = recent_tag_of(guard->key, value.ptr, value.length);
    if (recent_has(recent, tag)) return ALLOWED;
  }
  int64_t not_after = 0;
  int verdict = basic_auth_check(guard->handle, (char *)value.ptr, value.length, &not_after);
  if (verdict == ALLOWED && recent != NULL) recent_add(recent, tag, not_after);
  if (verdict != UNDECIDED) return verdict;

  basic_auth_wait *wait = wait_new(stream);
  if (wait == NULL) return OVERLOADED;
  verdict = basic_auth_verify(guard->handle, (char *)value.ptr, value.length, wait);
  if (verdict == UNDECIDED)
    self->wait = wait;
  else
    wait_leave(wait, 2);
  return verdict;
}

int envoy_dynamic_module_on_http_filter_request_headers(void *stream, void *module, bool end_of_stream) {
  filter *self = module;
  envoy_buffer value;
  size_t values = 0;
  bool found = envoy_dynamic_module_callback_http_get_header(stream, HEADER_TYPE_REQUEST, LITERAL("authorization"),
                                                             &value, 0, &values);
  int verdict = found && values == 1 ? decide(stream, self, value) : DENIED;
  switch (verdict) {
    case ALLOWED:
      count(stream, self->config->allowed);
      return REQUEST_HEADERS_CONTINUE;
    case UNDECIDED:
      return REQUEST_HEADERS_STOP_ALL_ITERATION_AND_WATERMARK;
    default:
      refuse(stream, self->config, verdict);
      return REQUEST_HEADERS_STOP_ITERATION;
  }
}

// The event that basic_auth_finish has scheduled.
void envoy_dynamic_module_on_http_filter_scheduled(void *stream, void *module, uint64_t event) {
  filter *self = module;
  if (self->wait == NULL) return;
  wait_leave(self->wait, 1);
  self->wait = NULL;
  if (event == ALLOWED) {
    count(stream, self->config->allowed);
    envoy_dynamic_module_callback_http_filter_continue_decoding(stream);
  } else {
    refuse(stream, self->config, (int)event);
  }
}

void *envoy_dynamic_module_on_http_filter_new(void *module_config, void *stream) {
  filter *self = malloc(sizeof *self);
  if (self != NULL) *self = (filter){module_config, NULL};
  return self;
}

void envoy_dynamic_module_on_http_filter_destroy(void *module) {
  filter *self = module;
  if (self->wait != NULL) wait_leave(self->wait, 1);
  free(self);
}

// Configuration

// Of what this module uses, v0.1.0 (Envoy 1.38 and 1.39) has all, and just so; only the string differs.
const char *envoy_dynamic_module_on_program_init(void) {
#ifdef ABI_V0_1_0
  return "v0.1.0";
#else
  return "v0.2.0";
#endif
}

static bool define(void *envoy_config, module_buffer name, size_t *id) {
  return envoy_dynamic_module_callback_http_filter_config_define_counter(envoy_config, name, NULL, 0, id) ==
         METRICS_SUCCESS;
}

void envoy_dynamic_module_on_http_filter_config_destroy(void *module_config) {
  config *self = module_config;
  if (self->guard.handle != 0) basic_auth_config_destroy(self->guard.handle);
  free(self->guard.challenge);
  free(self->recents);
  free(self);
}

// Null makes Envoy reject the configuration.
void *envoy_dynamic_module_on_http_filter_config_new(void *envoy_config, envoy_buffer name, envoy_buffer text) {
  config *self = calloc(1, sizeof *self);
  if (self == NULL) return NULL;
  self->workers = envoy_dynamic_module_callback_get_concurrency();
  self->recents = calloc(self->workers, sizeof *self->recents);
  basic_auth_config_new((char *)text.ptr, text.length, self->workers, &self->guard);
  if (self->recents != NULL && self->guard.handle != 0 &&
      define(envoy_config, LITERAL("basic_auth.allowed"), &self->allowed) &&
      define(envoy_config, LITERAL("basic_auth.denied"), &self->denied) &&
      define(envoy_config, LITERAL("basic_auth.expired"), &self->expired) &&
      define(envoy_config, LITERAL("basic_auth.overloaded"), &self->overloaded))
    return self;
  envoy_dynamic_module_on_http_filter_config_destroy(self);
  return NULL;
}

// Events that Envoy requires a module to take, and that mean nothing here.

int envoy_dynamic_module_on_http_filter_request_body(void *stream, void *module, bool end_of_stream) {
  return CONTINUE;
}
int envoy_dynamic_module_on_http_filter_request_trailers(void *stream, void *module) { return CONTINUE; }
int envoy_dynamic_module_on_http_filter_response_headers(void *stream, void *module, bool end_of_stream) {
  return CONTINUE;
}
int envoy_dynamic_module_on_http_filter_response_body(void *stream, void *module, bool end_of_stream) {
  return CONTINUE;
}
int envoy_dynamic_module_on_http_filter_response_trailers(void *stream, void *module) { return CONTINUE; }
void envoy_dynamic_module_on_http_filter_stream_complete(void *stream, void *module) {}
void envoy_dynamic_module_on_http_filter_http_callout_done(void *stream, void *module, uint64_t id, int result,
                                                           void *headers, size_t header_count, envoy_buffer *body,
                                                           size_t chunks) {}
void envoy_dynamic_module_on_http_filter_http_stream_headers(void *stream, void *module, uint64_t id, void *headers,
                                                             size_t header_count, bool end_stream) {}
void envoy_dynamic_module_on_http_filter_http_stream_data(void *stream, void *module, uint64_t id,
                                                          const envoy_buffer *data, size_t chunks, bool end_stream) {}
void envoy_dynamic_module_on_http_filter_http_stream_trailers(void *stream, void *module, uint64_t id, void *trailers,
                                                              size_t trailer_count) {}
void envoy_dynamic_module_on_http_filter_http_stream_complete(void *stream, void *module, uint64_t id) {}
void envoy_dynamic_module_on_http_filter_http_stream_reset(void *stream, void *module, uint64_t id, int reason) {}
void envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(void *stream, void *module) {}
void envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(void *stream, void *module) {}
