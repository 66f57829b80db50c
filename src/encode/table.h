/*
 * What the decoder knows of a published table: its columns and how to encode them, its key, and the start
 * that all its packages share. Built from the catalogs as they were at the change being decoded, and
 * thrown away when PostgreSQL says that the relation or a type changed.
 */
#ifndef SIPHON_TABLE_H
#define SIPHON_TABLE_H

#include "server/buffer.h"
#include "registry/registry.h"
#include "ring/ring.h"
#include "catalogs/type_map.h"

struct MissingValue;
struct Obstacle;
struct Package;

struct Column
{
	int attnum; /* from 0, index into deformed tuples */
	bool key;
	bool padded; /* character(n): trailing spaces make no difference */
	int offset;  /* with fixed_natts of the table: where tuples without nulls have it */
	TypeMapping type;
};

/*
 * What each change needs stands first, in two cache lines: when thousands of tables are written in turn, each line and
 * each page of memory that a change touches is a miss.
 */
struct Table
{
	Oid relid; /* hash key */

	/* With each change. */
	bool published; /* as far as the registry has come, its changes are */
	bool valid;     /* what the catalogs say is; it is rebuilt if not, or when a type has changed since */
	bool full;      /* REPLICA IDENTITY FULL: old rows are whole */
	bool identity_warned; /* a change of a row without a replica identity was reported */
	uint64 types_epoch;
	XLogRecPtr start_lsn; /* published from there on, and before end_lsn */
	XLogRecPtr end_lsn;
	Package **packages; /* the open package of each partition, or NULL */
	int partitions;
	int npackages;
	Column *columns;
	int *key_columns; /* indexes into columns, in the order of the key's index */
	int ncolumns;
	int nkeys;
	int fixed_natts; /* attributes of which tuples without nulls have all columns in one place each; 0: they don't */

	/* As its packages call it now, and so do those of all transactions that commit up to its end_lsn. See renames.h. */
	RegistryName current_name;

	bool changed; /* PostgreSQL said that the relation has, since tables_next_changed() */
	slist_node changed_node;
	XLogRecPtr end_event_lsn; /* commit LSN of the last DROP or RENAME event of this table */

	/* What the registry says. */
	bool in_registry;
	RegistryName registry_name;
	List *former_names;     /* of RegistryName *, in settings_context */
	siphon::FrameKind kind; /* of the frames that carry its packages */
	uint32 generation;
	siphon::GenerationStart generation_start;
	int wanted_partitions;
	List *exclude_columns;    /* of char *, in settings_context */
	List *exclude_attributes; /* of int, likewise */
	List *only_attributes;    /* of int, likewise; if there are any, they alone count */
	List *kept_values;        /* of RegistryValue *, likewise */
	MemoryContext settings_context;

	/* What the catalogs say. In context, as key_columns is. */
	siphon::FrameKind header_kind; /* kind and generation that header was made for */
	uint32 header_generation;
	bool leafless;            /* it is known to be no partitioned table */
	const Obstacle *obstacle; /* that of its columns; if there is one, it has no key */
	uint64 fingerprint;
	uint32 namespace_hash;     /* of its schema, in invalidations; 0: not known yet */
	List *type_hashes;         /* of int: likewise, of the schemas of its columns' types */
	uint64 schema_hash;        /* of the schema that was written last */
	siphon::WireBuffer header; /* the fields of a Package that all packages of the table share */
	char *route;               /* schema, NUL, table, in UTF-8: for the ring's frames */
	int route_length;
	MemoryContext context;

	/* By attribute. Not with each change of a type: a table may have thousands of leaves. */
	bool missing_valid;
	MissingValue *missing;
	size_t missing_bytes; /* of those that were looked at */
	MemoryContext missing_context;
};

#endif
