/*
 * The transitions of a state machine as a table, which its one function that changes the state checks, and from which
 * the diagram in docs/architecture.md is (test/t/079_documentation.pl compares them).
 */
#ifndef SIPHON_TRANSITIONS_H
#define SIPHON_TRANSITIONS_H

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace siphon {

template <typename State> struct Transition
{
	State from;
	State to;
	const char *when;
};

/* A state may always be entered again. */
template <typename State, size_t count>
constexpr bool
is_allowed(const Transition<State> (&transitions)[count], State from, State to)
{
	return from == to || std::any_of(std::begin(transitions), std::end(transitions), [=](const Transition<State> &each) {
			   return each.from == from && each.to == to;
		   });
}

} // namespace siphon

#endif
