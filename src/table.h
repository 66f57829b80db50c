/*
 * What the decoder knows of a published table: its columns and how to encode them, its key, and the start
 * that all its packages share. Built from the catalogs as they were at the change being decoded, and
 * thrown away when PostgreSQL says that the relation or a type changed.
 */
#ifndef SIPHON_TABLE_H
#define SIPHON_TABLE_H

#include "buffer.h"
#include "existing_rows.h"
#include "registry.h"
#include "ring.h"
#include "type_map.h"

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

struct Table
{
	Oid relid; /* hash key */

	bool changed; /* PostgreSQL said that the relation has, since tables_next_changed() */
	slist_node changed_node;
	XLogRecPtr told_at; /* commit of the last transaction of which consumers were told that it dropped or renamed it */

	/* As its packages call it now, and so do those of all transactions that commit up to there. See renames.h. */
	RegistryName called;

	/* What the registry says. */
	bool listed;
	bool published; /* as far as it has come, its changes are */
	RegistryName listed_names;
	List *former_names; /* of RegistryName *, in settings_context */
	XLogRecPtr start;
	XLogRecPtr until;
	siphon::FrameKind kind; /* of the frames that carry its packages */
	uint32 generation;
	siphon::GenerationStart generation_start;
	int wanted_partitions;
	List *exclude_columns;    /* of char *, in settings_context */
	List *exclude_attributes; /* of int, likewise */
	List *only_attributes;    /* of int, likewise; if there are any, they alone count */
	List *kept_values;        /* of RegistryValue *, likewise */
	MemoryContext settings_context;

	/* What the catalogs say; rebuilt when not valid. In context, but for the packages. */
	bool valid;
	siphon::FrameKind header_kind; /* kind and generation that header was made for */
	uint32 header_generation;
	bool leafless;            /* it is known to be no partitioned table */
	bool full;                /* REPLICA IDENTITY FULL: old rows are whole */
	const Obstacle *obstacle; /* that of its columns; if there is one, it has no key */
	bool nameless;            /* a change that nothing names was reported */
	int ncolumns;
	Column *columns;
	int nkeys;
	int fixed_natts;  /* attributes of which tuples without nulls have all columns in one place each; 0: they don't */
	int *key_columns; /* indexes into columns, in the order of the key's index */
	uint64 fingerprint;
	uint32 namespace_hash;     /* of its schema, in invalidations; 0: not known yet */
	List *type_hashes;         /* of int: likewise, of the schemas of its columns' types */
	uint64 schema_hash;        /* of the schema that was written last */
	siphon::WireBuffer header; /* the fields of a Package that all packages of the table share */
	char *route;               /* schema, NUL, table, in UTF-8: for the ring's frames */
	int route_length;
	MemoryContext context;

	/* By attribute. Not with each change of a type: a table may have thousands of leaves. */
	bool existing_valid;
	ExistingValue *existing;
	size_t existing_bytes; /* of those that were looked at */
	MemoryContext existing_context;

	int partitions;
	Package **packages; /* the open package of each partition, or NULL */
	int npackages;
};

/* One column on its way into packages and the schema; `wire`: a siphon.v1.Column. */
struct ColumnDraft
{
	Form_pg_attribute attribute;
	siphon::WireBuffer wire;
};

/* The siphon.v1.TableSchema of a table that is built, from its columns, in the current memory context. */
extern siphon::WireBuffer table_schema(const Table *table, Relation relation, const char *application,
									   const ColumnDraft *columns);
/* Writes text as UTF-8 into a field. Makes room for it. */
extern void put_utf8(siphon::WireBuffer *out, uint32 field, const char *text);

/* Takes the registry's settings of the table. False: they are what they were. */
extern bool table_take_settings(Table *table, const RegistryTable *listed);

/* Called once, when the decoder starts. */
extern void tables_init(const char *application);
/* Takes the published tables from the registry. Those of which it says something else than before are built anew. */
extern void tables_set(const Registry *registry);
/* True if tables_set() has seen the table in that generation before. */
extern bool table_known(Oid relid, uint32 generation);
/* True if changes of the table are published, as of now. */
extern bool table_published(Oid relid);
/* Changes when that may have, for any table, or when PostgreSQL says that one that may have leaves changed. */
extern uint64 tables_epoch;
/* One of the registry's tables of which PostgreSQL said that the relation changed, each once. NULL: no more. */
extern Table *tables_next_changed(void);
/* Its schema is this one: that others change is nothing to it. */
extern void table_note_schema(Table *table, Oid schema);
/* PostgreSQL has to be asked about the table's name at the end of this transaction, whoever changed it. */
extern void table_mark_changed(Table *table);
/*
 * The table under a name, without columns: for what is left to say of it there. In the current memory context, in which
 * it must not be forgotten before its packages are written.
 */
extern Table *table_under_name(const Table *table, const RegistryName *name);
/* Makes packages begin without columns, under this name, and be of this kind: for what is said of a table that is gone. */
extern void table_forget_columns(Table *table, const RegistryName *name, siphon::FrameKind kind);
/* True if the table's present generation includes this commit, whether or not it is published now. */
extern bool table_includes(const Table *table, XLogRecPtr commit_lsn);
/* The table, or NULL if it is not published at this commit. */
extern Table *table_lookup(Oid relid, XLogRecPtr commit_lsn);
/* The same, without a look at the catalogs: its columns may be those of before. */
extern Table *table_find(Oid relid, XLogRecPtr commit_lsn);

/*
 * For a snapshot's process: the one table that it scans, and its description by the current catalogs, which are those of
 * a place at or before lsn. The relation is open.
 */
extern void tables_set_one(const RegistryTable *table);
extern Table *table_for_snapshot(Relation relation, XLogRecPtr lsn);

#endif
