// Package auth decides whether the value of an Authorization header holds a valid Basic credential (RFC 7617). It
// knows nothing of the proxy that asks.
//
// A [Guard] keeps no password. A credential in it is a tag: SHA-256 over a random key of the guard and the text
// "user:password". A password given in the configuration is tagged when the guard is made; one that bcrypt has
// accepted is tagged then, so that its cost is paid once. Looking up a tag costs the same for every user name,
// known or not, and bcrypt's work for a wrong password is made equal for all names as well.
package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Verdict is the answer to one request. The zero value refuses.
type Verdict uint8

const (
	// Denied: no credential, a malformed one, or a wrong one.
	Denied Verdict = iota
	// Allowed: a right credential.
	Allowed
	// Expired: a right credential after its not_after.
	Expired
	// Overloaded: too many credentials wait for bcrypt; nothing is known about this one.
	Overloaded
	// Undecided: bcrypt must be asked.
	Undecided
)

const (
	keySize = 32
	// never is the not_after, in milliseconds of Unix time, of a credential without one.
	never int64 = math.MaxInt64
)

// tag stands for one credential. An attacker who doesn't know the key can't choose or predict any part of it.
type tag [sha256.Size]byte

// Half of a tag finds an entry, the other half proves it in constant time.
type (
	head [sha256.Size / 2]byte
	tail [sha256.Size / 2]byte
)

type entry struct {
	proof    tail
	notAfter int64
	// settled: bcrypt has nothing to add. Not so while the same user name has hashes that were never tried with this
	// password: should the entry have expired, one of them may still accept it.
	settled bool
}

type hash struct {
	text     []byte
	notAfter int64
}

// Guard decides for one configuration. Its methods may be called from any thread.
type Guard struct {
	key       [keySize]byte
	challenge string
	hashes    map[string][]hash
	// work is the bcrypt work, in units of 2^cost, that a wrong password costs for any user name.
	work    uint64
	pool    *Pool
	now     func() time.Time
	compare func(hash, password []byte) error
	refused refusals

	// entries is replaced, never changed.
	entries atomic.Pointer[map[head]entry]
	// mu guards flights, and the replacing of entries.
	mu      sync.Mutex
	flights map[tag]*flight
}

// flight is one credential that bcrypt works on, and the requests that wait for it.
type flight struct{ waiting []func(Verdict) }

// New returns a guard for config, whose bcrypt checks run in pool.
func New(config *Config, pool *Pool) *Guard {
	g := &Guard{
		challenge: challenge(config.Realm),
		hashes:    map[string][]hash{},
		pool:      pool,
		now:       time.Now,
		compare:   bcrypt.CompareHashAndPassword,
		flights:   map[tag]*flight{},
	}
	rand.Read(g.key[:]) // never fails: see crypto/rand
	for _, user := range config.Users {
		if user.Hash != "" {
			g.hashes[user.Name] = append(g.hashes[user.Name], hash{[]byte(user.Hash), deadline(user.NotAfter)})
		}
	}
	for _, hashes := range g.hashes {
		work := uint64(0)
		for _, h := range hashes {
			work += 1 << costOf(string(h.text))
		}
		g.work = max(g.work, work)
	}
	entries := map[head]entry{}
	for _, user := range config.Users {
		if user.Password != "" {
			t := g.tag([]byte(user.Name + ":" + user.Password))
			put(entries, t, deadline(user.NotAfter), len(g.hashes[user.Name]) == 0)
		}
	}
	g.entries.Store(&entries)
	return g
}

// Challenge is the value of WWW-Authenticate that goes with a refusal.
func (g *Guard) Challenge() string { return g.challenge }

// Check decides about the value of an Authorization header without waiting. Undecided means that Verify must be asked.
// With Allowed comes the not_after, in milliseconds of Unix time, up to which the same value will be allowed again.
func (g *Guard) Check(header []byte) (verdict Verdict, notAfter int64) {
	var buffer [keySize + maxCredential]byte
	credential, ok := decodeHeader(buffer[keySize:], header)
	if !ok {
		return Denied, 0
	}
	copy(buffer[:], g.key[:])
	t := tag(sha256.Sum256(buffer[:keySize+len(credential)]))
	clear(buffer[:keySize+len(credential)])
	return g.look(t)
}

// Verify decides about the value of an Authorization header with bcrypt. It returns Undecided at once if the work is
// under way; then it calls done with the verdict, once, on another goroutine. Otherwise it returns the verdict and
// never calls done.
func (g *Guard) Verify(header []byte, done func(Verdict)) Verdict {
	credential, ok := decodeHeader(make([]byte, maxCredential), header)
	if !ok {
		return Denied
	}
	t := g.tag(credential)
	g.mu.Lock()
	defer g.mu.Unlock()
	// It may have been decided since Check.
	if verdict, _ := g.look(t); verdict != Undecided {
		return verdict
	}
	if !g.pool.admit() {
		return Overloaded
	}
	if f := g.flights[t]; f != nil {
		f.waiting = append(f.waiting, done)
		return Undecided
	}
	g.flights[t] = &flight{[]func(Verdict){done}}
	if !g.pool.run(func() { g.fly(t, credential) }) {
		delete(g.flights, t)
		g.pool.leave(1)
		return Overloaded
	}
	return Undecided
}

func (g *Guard) tag(credential []byte) tag {
	return sha256.Sum256(append(bytes.Clone(g.key[:]), credential...))
}

// look decides what can be decided without bcrypt.
func (g *Guard) look(t tag) (verdict Verdict, notAfter int64) {
	e, ok := (*g.entries.Load())[head(t[:])]
	if ok && subtle.ConstantTimeCompare(e.proof[:], t[len(head{}):]) == 1 {
		if g.live(e.notAfter) {
			return Allowed, e.notAfter
		}
		if e.settled {
			return Expired, 0
		}
	}
	if g.work == 0 || g.refused.has(t) {
		return Denied, 0
	}
	return Undecided, 0
}

func (g *Guard) live(notAfter int64) bool {
	return notAfter == never || g.now().UnixMilli() < notAfter
}

// fly runs bcrypt for one credential, remembers the outcome and tells those who wait. A panic refuses.
func (g *Guard) fly(t tag, credential []byte) {
	verdict := Denied
	defer func() {
		recover()
		clear(credential)
		g.mu.Lock()
		waiting := g.flights[t].waiting
		delete(g.flights, t)
		g.mu.Unlock()
		g.pool.leave(len(waiting))
		for _, done := range waiting {
			done(verdict)
		}
	}()
	name, password, _ := strings.Cut(string(credential), ":")
	notAfter, ok := g.try(name, []byte(password))
	verdict = g.settle(t, notAfter, ok)
}

// try asks bcrypt. It reports whether any hash of the user accepts the password, and until when. Unless one that is
// live does, it has done the same work for every name and password.
func (g *Guard) try(name string, password []byte) (notAfter int64, ok bool) {
	left := g.work
	for _, h := range g.hashes[name] {
		left -= 1 << costOf(string(h.text))
		err := g.compare(h.text, password)
		// bcrypt ignores what is beyond 72 bytes; taking it for right would give one hash many passwords.
		if err != nil || len(password) > maxBcryptPassword {
			continue
		}
		notAfter, ok = max(notAfter, h.notAfter), true
		if g.live(notAfter) {
			return notAfter, true
		}
	}
	for left != 0 {
		cost := bits.TrailingZeros64(left)
		left &= left - 1
		// The outcome is of no interest, only the work.
		_ = g.compare(fmt.Appendf(nil, "$2b$%02d$%s", cost, strings.Repeat(".", 53)), password)
	}
	return notAfter, ok
}

// settle remembers what bcrypt said. The entries stay bounded by the configuration: a hash accepts one password.
func (g *Guard) settle(t tag, notAfter int64, ok bool) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := (*g.entries.Load())[head(t[:])]
	if !ok && !known {
		g.refused.add(t)
		return Denied
	}
	entries := maps.Clone(*g.entries.Load())
	put(entries, t, notAfter, true)
	g.entries.Store(&entries)
	verdict, _ := g.look(t)
	return verdict
}

// put adds a credential; of two with the same tag, the later end counts.
func put(entries map[head]entry, t tag, notAfter int64, settled bool) {
	h := head(t[:])
	entries[h] = entry{tail(t[len(h):]), max(notAfter, entries[h].notAfter), settled}
}

// deadline turns a not_after into milliseconds of Unix time.
func deadline(notAfter *time.Time) int64 {
	if notAfter == nil {
		return never
	}
	return notAfter.UnixMilli()
}
