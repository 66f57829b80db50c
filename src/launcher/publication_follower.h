/*
 * Following a publication: the tables of an application are those of one of PostgreSQL's publications, so that ALTER
 * PUBLICATION says what is published, also on the primary for the application of a standby.
 *
 * A worker beside the decoder compares the two whenever a catalog changed that says something of it, and has tables
 * added, removed and changed as the SQL functions would. What a publication asks for that Siphon does not do, such as
 * row filters, leaves the table out; a publication that is gone, or does not publish all kinds of changes, changes
 * nothing. Tables that a person added are nothing to it.
 */
#ifndef SIPHON_PUBLICATION_FOLLOWER_H
#define SIPHON_PUBLICATION_FOLLOWER_H

#include "registry/registry.h"

/* What the launcher knows of an application's follower. */
struct Follower
{
	bool wanted;
	BackgroundWorkerHandle *handle; /* or NULL */
	TimestampTz next_start;
};

/* Starts the follower where it is wanted and does not run. Returns when to be called again, in ms. */
extern long publication_follower_manage(Follower *follower, SharedApplication *app);

#endif
