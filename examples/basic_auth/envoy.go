package main

/*
#include "abi.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

type logLevel C.int

const (
	logWarn  logLevel = C.LOG_WARN
	logError logLevel = C.LOG_ERROR
)

// log writes a line to Envoy's log, under its "dynamic_modules" logger.
func log(level logLevel, message string) {
	message = "moe basic_auth: " + message
	var pinner runtime.Pinner
	defer pinner.Unpin()
	text := unsafe.StringData(message)
	pinner.Pin(text)
	C.envoy_dynamic_module_callback_log(C.int(level), C.module_buffer{
		ptr:    (*C.char)(unsafe.Pointer(text)),
		length: C.size_t(len(message)),
	})
}

// view is a Go slice over bytes of Envoy, for as long as the event lasts.
func view(ptr *C.char, length C.size_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(ptr)), int(length))
}
