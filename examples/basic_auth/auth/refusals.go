package auth

import "sync"

// maxRefusals bounds what is remembered of wrong credentials; 1024 tags take about 80 kB.
const maxRefusals = 1024

// refusals remembers credentials that bcrypt has refused, the oldest forgotten first. It is apart from the accepted
// ones, so that no flood of wrong credentials can push out a right one.
type refusals struct {
	mu   sync.Mutex
	set  map[tag]struct{}
	ring []tag
	next int
}

func (r *refusals) has(t tag) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.set[t]
	return ok
}

func (r *refusals) add(t tag) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.set[t]; ok {
		return
	}
	if r.set == nil {
		r.set = map[tag]struct{}{}
	}
	if len(r.ring) < maxRefusals {
		r.ring = append(r.ring, t)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = t
		r.next = (r.next + 1) % maxRefusals
	}
	r.set[t] = struct{}{}
}
