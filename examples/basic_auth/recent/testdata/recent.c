// Prints tags in hexadecimal, then what a cache says, for recent_test.go to judge.
#include "../recent.h"

#include <stdio.h>

static recent cache;

int main(void) {
  uint64_t key[2];
  unsigned char bytes[64];
  for (int i = 0; i < 64; i++) bytes[i] = (unsigned char)i;
  memcpy(key, bytes, sizeof key);
  for (size_t length = 0; length < 64; length++) {
    recent_tag tag = recent_tag_of(key, (const char *)bytes, length);
    const unsigned char *out = (const unsigned char *)&tag;
    for (size_t i = 0; i < sizeof tag; i++) printf("%02x", out[i]);
    printf("\n");
  }

  recent_tag tag = {1, 2}, same_slot = {1 + RECENT_SLOTS, 2}, other_half = {1, 3};
  int64_t now = (int64_t)time(NULL) * 1000;
  printf("zeroed %d\n", recent_has(&cache, (recent_tag){0, 0}));
  printf("absent %d\n", recent_has(&cache, tag));
  recent_add(&cache, tag, RECENT_NEVER);
  printf("present %d\n", recent_has(&cache, tag));
  printf("same slot %d\n", recent_has(&cache, same_slot));
  printf("other half %d\n", recent_has(&cache, other_half));
  recent_add(&cache, tag, now - 1000);
  printf("expired %d\n", recent_has(&cache, tag));
  recent_add(&cache, tag, now + 60000);
  printf("not yet expired %d\n", recent_has(&cache, tag));
  recent_add(&cache, same_slot, RECENT_NEVER);
  printf("displaced %d\n", recent_has(&cache, tag));
  printf("displacing %d\n", recent_has(&cache, same_slot));
  return 0;
}
