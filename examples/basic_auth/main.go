// A HTTP Basic Auth filter for Envoy, as a dynamic module. Package auth decides; abi.c takes Envoy's events; here is
// what goes between them.
package main

/*
#include "abi.h"
*/
import "C"

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"runtime/cgo"
	"time"

	"moe.gateway/examples/basic_auth/auth"
)

const (
	// How many distinct credentials may wait for bcrypt, and how many requests in all: enough for a fleet of clients
	// that come at once after a rotation, and small beside what Envoy keeps for a connection.
	maxQueued  = 64
	maxWaiting = 4096
)

// workers leaves half of the processors to Envoy.
var workers = max(1, runtime.NumCPU()/2)

var pool = auth.NewPool(workers, maxQueued, maxWaiting)

// A panic must not unwind into C, where it would end Envoy: each function below turns it into a refusal.

// basic_auth_config_new fills in guard, or leaves it without a handle if the configuration is refused, and logs why.
//
//export basic_auth_config_new
func basic_auth_config_new(ptr *C.char, length C.size_t, envoyWorkers C.uint32_t, guard *C.basic_auth_guard) {
	defer func() {
		if p := recover(); p != nil {
			log(logError, fmt.Sprintf("configuration refused: panic (%T)", p))
		}
	}()
	config, err := auth.Parse(view(ptr, length))
	if err != nil {
		log(logError, "configuration refused: "+err.Error())
		return
	}
	if config.Live(time.Now()) == 0 {
		log(logWarn, "not_after of every user has passed: all requests are refused")
	}
	// A worker that enters Go needs one of its processors at once, also while bcrypt keeps others busy.
	if n := int(envoyWorkers) + workers + 1; n > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
	g := auth.New(config, pool)
	guard.challenge = C.CString(g.Challenge())
	guard.challenge_length = C.size_t(len(g.Challenge()))
	var key [16]byte
	rand.Read(key[:]) // never fails: see crypto/rand
	guard.key[0] = C.uint64_t(binary.LittleEndian.Uint64(key[:8]))
	guard.key[1] = C.uint64_t(binary.LittleEndian.Uint64(key[8:]))
	guard.handle = C.uintptr_t(cgo.NewHandle(g))
}

//export basic_auth_config_destroy
func basic_auth_config_destroy(handle C.uintptr_t) {
	defer func() { recover() }()
	cgo.Handle(handle).Delete()
}

// basic_auth_check sets notAfter, in milliseconds of Unix time, for a credential that is ALLOWED.
//
//export basic_auth_check
func basic_auth_check(handle C.uintptr_t, ptr *C.char, length C.size_t, notAfter *C.int64_t) (verdict C.int) {
	defer func() {
		if recover() != nil {
			verdict = C.DENIED
		}
	}()
	decided, end := guardOf(handle).Check(view(ptr, length))
	*notAfter = C.int64_t(end)
	return C.int(decided)
}

// basic_auth_verify answers UNDECIDED if it has taken wait, for which it then calls basic_auth_finish.
//
//export basic_auth_verify
func basic_auth_verify(handle C.uintptr_t, ptr *C.char, length C.size_t, wait *C.basic_auth_wait) (verdict C.int) {
	defer func() {
		if recover() != nil {
			verdict = C.DENIED
		}
	}()
	return C.int(guardOf(handle).Verify(view(ptr, length), func(verdict auth.Verdict) {
		C.basic_auth_finish(wait, C.int(verdict))
	}))
}

func guardOf(handle C.uintptr_t) *auth.Guard {
	return cgo.Handle(handle).Value().(*auth.Guard)
}

// The enum of abi.h and auth.Verdict are one.
var _ = [1]struct{}{}[(C.DENIED-int(auth.Denied))|(C.ALLOWED-int(auth.Allowed))|(C.EXPIRED-int(auth.Expired))|
	(C.OVERLOADED-int(auth.Overloaded))|(C.UNDECIDED-int(auth.Undecided))]

func main() {}
