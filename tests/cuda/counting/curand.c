/* The provider names cuRAND as needed and uses nothing of it. */
extern const int curand_is_empty;
const int curand_is_empty = 1;
