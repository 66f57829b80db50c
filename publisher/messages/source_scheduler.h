/*
 * Whose turn it is to publish a message. MessageSource 0, the decoder's ring, goes first, because people wait for changes and
 * nobody waits for one row of a snapshot; but after a few of its messages in a row one of the others gets a
 * turn, each of them in its order, so that none waits for ever. While held changes are moved, each second turn is one of
 * theirs: they must get on faster than the decoder holds more.
 */
#ifndef SIPHON_SOURCE_SCHEDULER_H
#define SIPHON_SOURCE_SCHEDULER_H

#include <cstddef>
#include <optional>

namespace siphon {

class SourceScheduler
{
public:
	static constexpr int kFirstInARow = 8;

	/* Of `count` sources one that is ready(source), which is asked of as few as needed. nullopt: none is. */
	template <typename Ready> std::optional<size_t> next(size_t count, bool moving, Ready ready)
	{
		bool first_asked = in_a_row_ < (moving ? 1 : kFirstInARow);

		if (count == 0)
			return std::nullopt;
		if (first_asked && ready(0))
		{
			in_a_row_++;
			return 0;
		}
		for (size_t i = 1; i < count; i++)
		{
			size_t source = 1 + (last_ + i - 1) % (count - 1);

			if (!ready(source))
				continue;
			last_ = source;
			in_a_row_ = 0;
			return source;
		}
		if (!first_asked && ready(0))
		{
			in_a_row_ = 1;
			return 0;
		}
		return std::nullopt;
	}

private:
	int in_a_row_ = 0;
	size_t last_ = 0; /* of the others, who was last */
};

} // namespace siphon

#endif
