/* See log_limit.h. */
#include "program/log_limit.h"

namespace siphon {

static std::string
shape_of(std::string_view line)
{
	std::string shape;

	for (char c : line)
	{
		if (c < '0' || c > '9')
			shape += c;
		else if (shape.empty() || shape.back() != '0')
			shape += '0';
	}
	return shape;
}

bool
LogLimit::admit(std::string_view line, Clock::time_point now, uint64_t *left_out)
{
	if (shapes_.size() >= kShapes)
		shapes_.clear();

	Shape &shape = shapes_[shape_of(line)];

	*left_out = 0;
	if (shape.lines == 0 || now - shape.since >= kPeriod)
	{
		*left_out = shape.left_out;
		shape = {now, 0, 0};
	}
	if (++shape.lines <= kLines)
		return true;
	shape.left_out++;
	return false;
}

} // namespace siphon
