/*
 * The phases of tables and of snapshots: what is not in their tables of transitions is refused.
 */
#include "registry/table_phase.h"
#include "snapshot/snapshot_phase.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

namespace {

template <typename Phase> using Pairs = std::vector<std::pair<std::optional<Phase>, Phase>>;

/* All pairs of different phases, and nothing and a phase, that the table refuses. */
template <typename Phase, size_t count>
Pairs<Phase>
refused(const siphon::Transition<Phase> (&table)[count], std::initializer_list<Phase> phases)
{
	Pairs<Phase> pairs;

	for (Phase to : phases)
	{
		if (!siphon::is_transition(table, std::optional<Phase>(), to))
			pairs.emplace_back(std::nullopt, to);
		for (Phase from : phases)
			if (!siphon::is_transition(table, std::optional<Phase>(from), to))
				pairs.emplace_back(from, to);
	}
	return pairs;
}

TEST(TablePhase, ScansOnlyAfterItWaited)
{
	using P = TablePhase;
	Pairs<P> wanted{{std::nullopt, P::Scanning},
					{P::Streaming, P::Scanning},
					{P::Stopped, P::Scanning},
					{std::nullopt, P::Stopped}};

	EXPECT_EQ(refused(kTablePhaseTransitions, {P::Waiting, P::Scanning, P::Streaming, P::Stopped}), wanted);
}

TEST(TablePhase, MayBeKept)
{
	for (TablePhase phase : {TablePhase::Waiting, TablePhase::Scanning, TablePhase::Streaming, TablePhase::Stopped})
		EXPECT_TRUE(siphon::is_transition(kTablePhaseTransitions, {phase}, phase));
}

TEST(TablePhase, HasANameForEach)
{
	EXPECT_EQ(std::size(kTablePhaseNames), static_cast<size_t>(TablePhase::Stopped) + 1);
}

TEST(SnapshotPhase, GoesForwardOrFails)
{
	using P = SnapshotPhase;
	std::initializer_list<P> phases{P::Preparing, P::Scanning, P::CatchUp, P::Done, P::Failed};

	for (P from : phases)
		for (P to : phases)
			EXPECT_EQ(siphon::is_transition(kSnapshotPhaseTransitions, {from}, to),
					  from == to || (from != P::Failed &&
									 (to == P::Failed || static_cast<int>(to) == static_cast<int>(from) + 1)))
				<< static_cast<int>(from) << " to " << static_cast<int>(to);
	EXPECT_TRUE(siphon::is_transition(kSnapshotPhaseTransitions, std::optional<P>(), P::Preparing));
	EXPECT_FALSE(siphon::is_transition(kSnapshotPhaseTransitions, std::optional<P>(), P::Scanning));
}

} // namespace
