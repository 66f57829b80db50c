/*
 * The phases of a running snapshot, in shared memory only: a snapshot does not outlive its processes.
 * snapshot_job_set_phase() holds them to the transitions. Includes nothing of PostgreSQL.
 */
#ifndef SIPHON_SNAPSHOT_PHASE_H
#define SIPHON_SNAPSHOT_PHASE_H

#include "ring/state_machine.h"

enum class SnapshotPhase : int { Preparing, Scanning, CatchUp, Done, Failed };

constexpr siphon::Transition<SnapshotPhase> kSnapshotPhaseTransitions[] = {
	{{}, SnapshotPhase::Preparing, "the launcher starts a leader, or gives an idle one a table"},
	{SnapshotPhase::Preparing, SnapshotPhase::Scanning, "changes are held from D on, old commits are over, S is taken"},
	{SnapshotPhase::Scanning, SnapshotPhase::CatchUp, "all blocks are scanned and acknowledged"},
	{SnapshotPhase::CatchUp, SnapshotPhase::Done, "SnapshotEnd is acknowledged, the held changes are published"},
	{SnapshotPhase::Preparing, SnapshotPhase::Failed, "an error, or it was ended"},
	{SnapshotPhase::Scanning, SnapshotPhase::Failed, "likewise, of any of its processes"},
	{SnapshotPhase::CatchUp, SnapshotPhase::Failed, "an error, or it was ended"},
	{SnapshotPhase::Done, SnapshotPhase::Failed, "its ring cannot be removed"},
};

#endif
