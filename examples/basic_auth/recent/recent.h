// The recent acceptances of one Envoy worker, kept where C can look them up, so that the next request with the same
// Authorization header needs no Go. Only what a Guard has allowed gets in, and its not_after is checked at each look.
//
// A header is known by its tag alone: SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012) under a
// random key of the configuration. That is a message authentication code, so nobody without the key can make a header
// whose tag is here, and there is no header to read here.
#ifndef MOE_BASIC_AUTH_RECENT_H
#define MOE_BASIC_AUTH_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum {
  RECENT_SLOTS = 512,       // a power of two
  RECENT_MAX_LENGTH = 512,  // of a header; a longer one is left to Go
};

// The not_after, in milliseconds of Unix time, of what never ends.
#define RECENT_NEVER INT64_MAX

typedef struct {
  uint64_t low, high;
} recent_tag;

// A zeroed slot ended in 1970.
typedef struct {
  recent_tag tag;
  int64_t not_after;
} recent_slot;

typedef struct {
  recent_slot slots[RECENT_SLOTS];
} recent;

static inline uint64_t recent_rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void recent_rounds(uint64_t v[4], int rounds) {
  while (rounds-- > 0) {
    v[0] += v[1], v[1] = recent_rotate(v[1], 13) ^ v[0], v[0] = recent_rotate(v[0], 32);
    v[2] += v[3], v[3] = recent_rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = recent_rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = recent_rotate(v[1], 17) ^ v[2], v[2] = recent_rotate(v[2], 32);
  }
}

// Words are read in the machine's order, which is little-endian wherever Envoy runs.
static inline recent_tag recent_tag_of(const uint64_t key[2], const char *text, size_t length) {
  uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee, key[0] ^ 0x6c7967656e657261,
                   key[1] ^ 0x7465646279746573};
  uint64_t word;
  size_t left = length;
  for (; left >= 8; text += 8, left -= 8) {
    memcpy(&word, text, 8);
    v[3] ^= word;
    recent_rounds(v, 2);
    v[0] ^= word;
  }
  word = 0;
  memcpy(&word, text, left);
  word |= (uint64_t)length << 56;
  v[3] ^= word;
  recent_rounds(v, 2);
  v[0] ^= word;

  v[2] ^= 0xee;
  recent_rounds(v, 4);
  recent_tag tag = {.low = v[0] ^ v[1] ^ v[2] ^ v[3]};
  v[1] ^= 0xdd;
  recent_rounds(v, 4);
  tag.high = v[0] ^ v[1] ^ v[2] ^ v[3];
  return tag;
}

static inline bool recent_live(int64_t not_after) {
  if (not_after == RECENT_NEVER) return true;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 < not_after;
}

// Compares whole tags, in constant time.
static inline bool recent_has(const recent *self, recent_tag tag) {
  const recent_slot *slot = &self->slots[tag.low % RECENT_SLOTS];
  return ((slot->tag.low ^ tag.low) | (slot->tag.high ^ tag.high)) == 0 && recent_live(slot->not_after);
}

static inline void recent_add(recent *self, recent_tag tag, int64_t not_after) {
  self->slots[tag.low % RECENT_SLOTS] = (recent_slot){tag, not_after};
}

#endif
