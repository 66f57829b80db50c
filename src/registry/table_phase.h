/*
 * The phases of a table: how far its snapshot is, and whether its changes are published. table_set_phase() holds them
 * to the transitions. Includes nothing of PostgreSQL.
 */
#ifndef SIPHON_TABLE_PHASE_H
#define SIPHON_TABLE_PHASE_H

#include "ring/state_machine.h"

enum class TablePhase {
	Waiting,   /* for its snapshot to begin; its changes are not published */
	Scanning,  /* its snapshot runs; its changes are held behind the rows */
	Streaming, /* its changes are published */
	Stopped    /* it can't be published, see the reason, until a resync */
};

/* As the registry's file has them. */
constexpr const char *kTablePhaseNames[] = {"waiting", "scanning", "streaming", "stopped"};

constexpr siphon::Transition<TablePhase> kTablePhaseTransitions[] = {
	{{}, TablePhase::Waiting, "siphon_add_table()"},
	{{}, TablePhase::Streaming, "siphon_add_table(…, snapshot => false)"},
	{TablePhase::Waiting, TablePhase::Scanning, "its snapshot begins"},
	{TablePhase::Waiting, TablePhase::Streaming, "it was dropped, and stays listed"},
	{TablePhase::Waiting, TablePhase::Stopped, "its snapshot fails each time"},
	{TablePhase::Scanning, TablePhase::Streaming, "SnapshotEnd is acknowledged, the held changes are published"},
	{TablePhase::Scanning, TablePhase::Waiting, "the snapshot failed, or a resync, with the next generation"},
	{TablePhase::Scanning, TablePhase::Stopped, "a row that cannot be published"},
	{TablePhase::Streaming, TablePhase::Waiting, "siphon_resync_table(), a rewrite, another key"},
	{TablePhase::Streaming, TablePhase::Stopped, "a row that cannot be published"},
	{TablePhase::Stopped, TablePhase::Waiting, "siphon_resync_table()"},
	{TablePhase::Stopped, TablePhase::Streaming, "siphon_resync_application(), if it was added without its rows"},
};

/* Returns true if changes of a table in this phase leave the decoder. */
constexpr bool
is_published_phase(TablePhase phase)
{
	return phase == TablePhase::Scanning || phase == TablePhase::Streaming;
}

#endif
