/*
 * Numbers of type numeric as text: see numeric_text.h. The bits are those of NumericChoice in PostgreSQL's numeric.c.
 */
#include "numeric_text.h"

static constexpr int kDigitsEach = 4; /* decimal digits in one of base 10,000 */

static constexpr uint16 kSignMask = 0xC000;
static constexpr uint16 kNegative = 0x4000;
static constexpr uint16 kShort = 0x8000;
static constexpr uint16 kSpecial = 0xC000;
static constexpr uint16 kSpecialMask = 0xF000;
static constexpr uint16 kPlusInfinity = 0xD000;
static constexpr uint16 kMinusInfinity = 0xF000;
static constexpr uint16 kLongScaleMask = 0x3FFF;
static constexpr uint16 kShortNegative = 0x2000;
static constexpr uint16 kShortScaleMask = 0x1F80;
static constexpr int kShortScaleShift = 7;
static constexpr uint16 kShortWeightSign = 0x0040;
static constexpr uint16 kShortWeightMask = 0x003F;

static uint16
load_uint16(const char *at)
{
	uint16 number;

	memcpy(&number, at, sizeof(number));
	return number;
}

NumericText::NumericText(const void *numeric) : NumericText(VARDATA_ANY(numeric), VARSIZE_ANY_EXHDR(numeric))
{
}

NumericText::NumericText(const char *at, size_t length)
{
	uint16 header = load_uint16(at);

	special_ = nullptr;
	if ((header & kSignMask) == kSpecial)
	{
		special_ = "NaN";
		if ((header & kSpecialMask) == kPlusInfinity)
			special_ = "Infinity";
		else if ((header & kSpecialMask) == kMinusInfinity)
			special_ = "-Infinity";
		digits_ = nullptr;
		ndigits_ = weight_ = scale_ = 0;
		negative_ = false;
		return;
	}
	at += sizeof(uint16);
	length -= sizeof(uint16);
	if (header & kShort)
	{
		negative_ = (header & kShortNegative) != 0;
		scale_ = (header & kShortScaleMask) >> kShortScaleShift;
		weight_ = header & kShortWeightMask;
		if (header & kShortWeightSign)
			weight_ -= kShortWeightMask + 1;
	}
	else
	{
		negative_ = (header & kSignMask) == kNegative;
		scale_ = header & kLongScaleMask;
		weight_ = static_cast<int16>(load_uint16(at));
		at += sizeof(uint16);
		length -= sizeof(uint16);
	}
	digits_ = at;
	ndigits_ = static_cast<int>(length / sizeof(uint16));
}

size_t
NumericText::bound() const
{
	/* Sign, one zero, point, and a digit of base 10,000 that the scale cuts off. */
	return static_cast<size_t>(Max(weight_ + 1, 1) * kDigitsEach + scale_ + kDigitsEach + 2 + 8);
}

static char *
write_digit(char *out, int digit)
{
	out[0] = static_cast<char>('0' + digit / 1000);
	out[1] = static_cast<char>('0' + digit / 100 % 10);
	out[2] = static_cast<char>('0' + digit / 10 % 10);
	out[3] = static_cast<char>('0' + digit % 10);
	return out + kDigitsEach;
}

/* The first one, without zeros in front. */
static char *
write_first_digit(char *out, int digit)
{
	if (digit >= 1000)
		*out++ = static_cast<char>('0' + digit / 1000);
	if (digit >= 100)
		*out++ = static_cast<char>('0' + digit / 100 % 10);
	if (digit >= 10)
		*out++ = static_cast<char>('0' + digit / 10 % 10);
	*out++ = static_cast<char>('0' + digit % 10);
	return out;
}

char *
NumericText::write(char *out) const
{
	auto digit = [this](int i) {
		return i >= 0 && i < ndigits_ ? static_cast<int>(load_uint16(digits_ + i * static_cast<int>(sizeof(uint16))))
									  : 0;
	};
	char *point;

	if (special_)
	{
		size_t length = strlen(special_);

		memcpy(out, special_, length);
		return out + length;
	}
	if (negative_)
		*out++ = '-';
	if (weight_ < 0)
		*out++ = '0';
	else
		out = write_first_digit(out, digit(0));
	for (int i = 1; i <= weight_; i++)
		out = write_digit(out, digit(i));
	if (scale_ == 0)
		return out;
	point = out;
	*out++ = '.';
	for (int i = 0; i < scale_; i += kDigitsEach)
		out = write_digit(out, digit(weight_ + 1 + i / kDigitsEach));
	return point + 1 + scale_;
}
