/*
 * State machines as tables: which state may follow which, and why. docs/architecture.md draws each table, and
 * test/t/079_documentation.pl compares the two. Includes nothing of PostgreSQL.
 */
#ifndef SIPHON_STATE_MACHINE_H
#define SIPHON_STATE_MACHINE_H

#include <cstddef>
#include <optional>

namespace siphon {

template <typename State> struct Transition
{
	std::optional<State> from; /* nothing: the machine begins */
	State to;
	const char *why;
};

/* Returns true if the table has the transition. A state may always be kept. */
template <typename State, size_t count>
constexpr bool
is_transition(const Transition<State> (&table)[count], std::optional<State> from, State to)
{
	if (from == to)
		return true;
	for (const Transition<State> &transition : table)
		if (transition.from == from && transition.to == to)
			return true;
	return false;
}

} // namespace siphon

#endif
