/*
 * What the fuzz targets share: a check that ends the run, inputs that are read field by field, and their mirror image,
 * by which a target writes inputs that make sense into its corpus before libFuzzer reads that.
 */
#ifndef SIPHON_FUZZ_H
#define SIPHON_FUZZ_H

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#define REQUIRE(condition)                                                                                             \
	do                                                                                                                 \
	{                                                                                                                  \
		if (!(condition))                                                                                              \
		{                                                                                                              \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
			abort();                                                                                                   \
		}                                                                                                              \
	} while (0)

class FuzzInput
{
public:
	FuzzInput(const uint8_t *data, size_t size) : rest_(reinterpret_cast<const char *>(data), size) {}

	bool more() const { return !rest_.empty(); }
	uint8_t byte() { return rest_.empty() ? 0 : static_cast<uint8_t>(take(1)[0]); }
	/* Two bytes of length, then the text; shorter where the input ends. */
	std::string text()
	{
		size_t length = byte();

		length |= size_t{byte()} << 8;
		return std::string(take(length));
	}
	uint64_t number()
	{
		uint64_t result = 0;

		for (char c : take(8))
			result = result << 8 | static_cast<uint8_t>(c);
		return result;
	}

private:
	std::string_view take(size_t length)
	{
		std::string_view taken = rest_.substr(0, length);

		rest_.remove_prefix(taken.size());
		return taken;
	}

	std::string_view rest_;
};

class FuzzSeed
{
public:
	FuzzSeed &byte(size_t value)
	{
		bytes_ += static_cast<char>(value);
		return *this;
	}
	FuzzSeed &text(std::string_view value)
	{
		byte(value.size() & 255).byte(value.size() >> 8);
		bytes_ += value;
		return *this;
	}
	FuzzSeed &number(uint64_t value)
	{
		for (int shift = 56; shift >= 0; shift -= 8)
			byte(value >> shift & 255);
		return *this;
	}
	void write(const std::string &corpus, const std::string &name) const
	{
		std::ofstream file(corpus + "/seed-" + name, std::ios::binary);

		file << bytes_;
		REQUIRE(file.flush());
	}

private:
	std::string bytes_;
};

/* The directory on the command line, if there is one: libFuzzer's corpus. */
inline std::string
fuzz_corpus(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		if (argv[i][0] != '-')
			return argv[i];
	}
	return "";
}

#endif
