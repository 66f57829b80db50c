/*
 * Numbers of type numeric as text, exactly as numeric_out() writes them, without a call into the server and its
 * memory for each: numerics are common, alone and inside of jsonb. The format on disk has not changed since 9.1.
 */
#ifndef SIPHON_NUMERIC_TEXT_H
#define SIPHON_NUMERIC_TEXT_H

#include "server/pg.h"

struct NumericText
{
	/* Of a numeric that is not toasted, but may have a short header. */
	explicit NumericText(const void *numeric);
	/* Of what stands behind that header, which may be unaligned. */
	NumericText(const char *data, size_t length);

	/* Most bytes that write() takes. */
	size_t bound() const;
	/* Returns the end of what it wrote. */
	char *write(char *out) const;

private:
	const char *special_; /* NaN and infinities; NULL otherwise */
	const char *digits_;  /* base 10,000; may be unaligned */
	int ndigits_;
	int weight_; /* of the first digit, as a power of 10,000 */
	int scale_;  /* decimal digits behind the point */
	bool negative_;
};

#endif
