/*
 * What the publisher's loop does: it publishes, or it resumes, which is all that comes before. In steps, none of which
 * waits, it finds out what the logs have, whether the source may publish there, and where to go on. Up to Claiming it
 * changes nothing, so that a publisher which may not publish disturbs nobody.
 */
#ifndef SIPHON_PUBLISHER_STATE_H
#define SIPHON_PUBLISHER_STATE_H

#include "ring/state_machine.h"

namespace siphon {

enum class PublisherState {
	FindingEnds,    /* where do the logs end? */
	CheckingOwner,  /* whose is the stream, and has another publisher taken over? */
	CheckingSource, /* may the decoder's ring follow on this stream, and does the stream hold what was acknowledged? */
	Claiming,       /* from here on this is the publisher */
	LoadingStates,  /* how far is each table, and is there all that is held? */
	Fencing,        /* nothing that others sent arrives any more */
	ReadingTails,   /* what has the stream of what the decoder's ring may bring once more? */
	FindingHeld,    /* what is held, and how far is the catch-up? */
	Publishing
};

constexpr Transition<PublisherState> kPublisherTransitions[] = {
	{PublisherState::FindingEnds, PublisherState::CheckingOwner, "both ends are known"},
	{PublisherState::CheckingOwner, PublisherState::CheckingSource, "no other publisher has taken over"},
	{PublisherState::CheckingSource, PublisherState::Claiming, "the ring may follow on the stream"},
	{PublisherState::Claiming, PublisherState::LoadingStates, "the state store names this publisher"},
	{PublisherState::LoadingStates, PublisherState::Fencing, "all states are read"},
	{PublisherState::Fencing, PublisherState::ReadingTails, "the fence is stored"},
	{PublisherState::ReadingTails, PublisherState::FindingHeld, "the tails are read up to the fence"},
	{PublisherState::FindingHeld, PublisherState::Publishing, "the last held change of each table is known"},
	/* A step that fails, and a connection that breaks, make all uncertain that was found out. */
	{PublisherState::CheckingOwner, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::CheckingSource, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::Claiming, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::LoadingStates, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::Fencing, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::ReadingTails, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::FindingHeld, PublisherState::FindingEnds, "failed, or the connection broke"},
	{PublisherState::Publishing, PublisherState::FindingEnds,
	 "a message was refused, or not answered in time, or the connection broke"},
};

} // namespace siphon

#endif
