/*
 * Whether all is well, and what to type if not. A status alone decides, so that each rule can be tested.
 */
#ifndef SIPHON_HEALTH_H
#define SIPHON_HEALTH_H

#include <string>
#include <vector>

#include "publisher/watch/status.h"

namespace siphon {

struct Problem
{
	const char *code; /* for programs; never changes its meaning */
	std::string what;
	std::string hint;    /* what to do: full sentences */
	std::string command; /* to type, in a shell or in psql; empty: there is none */
	bool unready;        /* nothing is replicated because of it */
};

/* What is wrong, the gravest first. */
std::vector<Problem> find_problems(const Status &status, Status::Clock::time_point now);

/* The loop turns, waits for NATS for the first time, or resumes, which may take a while. */
bool alive(const Status &status, Status::Clock::time_point now);
/* What it does while it resumes, since when and how far; empty if it does not. */
std::string resuming_text(const Status &status, Status::Clock::time_point now);

} // namespace siphon

#endif
